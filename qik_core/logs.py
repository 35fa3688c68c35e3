"""Log lines of a worker process: an event, then its fields, one line an event."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {
    10: "\\n",
    13: "\\r",
    9: "\\t",
}


class Line(logging.Formatter):
    """`2026-11-21T23:29:31.123Z INFO 4711 job done jid=… job=Charge seconds=0.012`, with a traceback behind it if any.

    Control characters are escaped: data must not write lines of its own, nor to the terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = "".join(
            f" {name}={value}" for name, value in vars(record).items() if name not in _PLAIN
        )
        line = f"{at}.{int(record.msecs):03d}Z {record.levelname} {record.process} {record.getMessage()}{fields}"
        line = line.translate(_CONTROL)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(level: str) -> None:
    """Write log lines to standard error. An application that configures logging itself may do so when it is imported."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=level, handlers=[handler])
