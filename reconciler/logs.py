"""Log lines of a process of reconcilers: an event, then its fields, one line an event."""

from __future__ import annotations

import logging
import time
from typing import Final

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


class Line(logging.Formatter):
    """`2026-11-21T23:29:31.123Z INFO 4711 pass completed reconciler=… scanned=… codes=…`, as the workers' lines.

    Control characters are escaped: data must not write lines of its own, nor to the terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = f"{at}.{int(record.msecs):03d}Z {record.levelname} {record.process} {record.getMessage()}"
        fields = (f"{key}={value}" for key, value in vars(record).items() if key not in _PLAIN)
        line = " ".join((head, *fields)).translate(_CONTROL)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
