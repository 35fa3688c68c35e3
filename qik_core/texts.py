"""The one canonical text of values that JSON does not have, and the way back. Equal values are equal texts.

What is lost: trailing zeros of a Decimal, the zone of a datetime (the moment stays).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Final
from uuid import UUID

from qik_core.errors import ArgumentError

_PLAIN_EXPONENT: Final = 30  # beyond it 1E+30 is shorter than its zeros
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def write_uuid(value: UUID, path: str) -> str:  # noqa: ARG001 - the shape of all writers
    """Return the 36 lower-case characters."""
    return str(value)


def write_decimal(value: Decimal, path: str) -> str:
    """Return the shortest text: 1.50 and 1.5 are one value, hence one key."""
    if not value.is_finite():
        raise ArgumentError(f"{path} is {value}, which is no number: send None")
    if not value:
        return "0"
    digits = value.as_tuple().digits
    short = value.normalize(Context(prec=len(digits), Emax=MAX_EMAX, Emin=MIN_EMIN))
    exponent = short.as_tuple().exponent
    plain = isinstance(exponent, int) and abs(exponent) <= _PLAIN_EXPONENT
    return f"{short:f}" if plain else str(short)


def read_decimal(text: str) -> Decimal:
    """Return a finite number."""
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError(text)
    return value


def write_datetime(value: datetime, path: str) -> str:
    """Return the moment in UTC with microseconds: equal moments are one text; the zone does not travel."""
    if value.utcoffset() is None:
        raise ArgumentError(
            f"{path} is a naive datetime: give it a time zone, as in datetime.now(UTC)"
        )
    try:
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:
        raise ArgumentError(f"{path} is beyond year 1 to 9999 in UTC") from None


def read_datetime(text: str) -> datetime:
    """Return an aware moment in UTC."""
    value = datetime.fromisoformat(text)
    if value.utcoffset() is None:
        raise ValueError(text)
    return value.astimezone(UTC)


def write_date(value: date, path: str) -> str:  # noqa: ARG001
    """Return YYYY-MM-DD."""
    return value.isoformat()


def read_date(text: str) -> date:
    """Return the day."""
    if _DATE.fullmatch(text) is None:
        raise ValueError(text)
    return date.fromisoformat(text)
