"""Who says which switches are on, how their words are merged, kept, published and audited."""

from __future__ import annotations
