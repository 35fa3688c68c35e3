"""Log lines of a worker process: an event, then its fields, one line an event."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# C0, DEL and C1; then what breaks lines or turns the direction of writing.
_BYTES: Final = (*range(32), *range(127, 160))
_WIDE: Final = (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_CONTROL: Final = {
    **{code: f"\\x{code:02x}" for code in _BYTES},
    **{code: f"\\u{code:04x}" for code in _WIDE},
    9: "\\t",
    10: "\\n",
    13: "\\r",
}
# Indented, so that an error's message cannot begin a line that looks like an event.
_IN_TRACES: Final = {**_CONTROL, 9: "\t", 10: "\n  "}
_LONGEST: Final = 20_000  # characters of a traceback; an error's message may have any length


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
        return line + _trace(self.formatException(record.exc_info)) if record.exc_info else line


def _trace(text: str) -> str:
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\n…\n{text[-_LONGEST // 2 :]}"
    return f"\n{text}".translate(_IN_TRACES)


def set_up(level: str) -> None:
    """Write log lines to standard error. An application that configures logging itself may do so when it is imported."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=level, handlers=[handler])
