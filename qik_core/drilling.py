"""What a drill needs of a Redis that it may break: to wipe it, to bring back an old snapshot, to see where each job is.

A face of `store.damage` for `reconciler drill`; nothing else has a use for it.
"""

from __future__ import annotations

from qik_core.store.damage import Census, Place, Residents, Scratch, Snapshot

__all__ = ["Census", "Place", "Residents", "Scratch", "Snapshot"]
