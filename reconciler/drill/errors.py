"""What a drill raises on purpose."""

from __future__ import annotations

from reconciler.errors import ReconcilerError


class DrillError(ReconcilerError):
    """The root of a drill's errors."""


class Unsafe(DrillError):
    """A drill would break what is not its own. The message says what lives there and what to do."""


class UnknownFault(DrillError):
    """No fault is called so."""


class NothingToDrill(DrillError):
    """There is no row that wants a job, and no way to make one."""


class ProcessFailed(DrillError):
    """A process of a drill ended by itself. The message holds the end of its log."""


class NotDrained(DrillError):
    """Work went on and on when no more was added. What was seen until then is judged all the same."""


class HookFailed(DrillError):
    """The application's `drill_rows` raised. The message says what."""


class NoMoment(DrillError):
    """The system never was in the state that a fault needs, or does not let it happen."""
