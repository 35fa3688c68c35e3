from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import pytest

from qik_core.arguments import Arguments, RowError, encode_rows
from qik_core.errors import ArgumentError, DefinitionError
from tests.qik_core.jobs_of_tests import Colour, Level, Point, Text, Whole

InvoiceId = NewType("InvoiceId", int)


def of(annotation: object, default: object = ...) -> Arguments:
    def perform(value): ...  # type: ignore[no-untyped-def]

    perform.__annotations__ = {"value": annotation}
    if default is not ...:
        perform.__defaults__ = (default,)
    return Arguments.of(perform, "Charge")


def there_and_back(annotation: object, value: object) -> tuple[object, object]:
    arguments = of(annotation)
    wire = arguments.dump([value], {})
    return wire[0], arguments.load(wire)[0]


EAST = timezone(timedelta(hours=2))
TRAVELS: list[tuple[object, object, object, object]] = [
    # annotation, value, on the wire, back
    (int, 7, 7, 7),
    (int, 2**64 - 1, 2**64 - 1, 2**64 - 1),
    (str, "ü", "ü", "ü"),
    (bool, True, True, True),
    (float, 1.5, 1.5, 1.5),
    (float, 7, 7.0, 7.0),
    (None, None, None, None),
    (int | None, None, None, None),
    (int | None, 7, 7, 7),
    (int | str, "7", "7", "7"),
    (InvoiceId, 7, 7, 7),
    (Annotated[int, "note"], 7, 7, 7),
    (Literal["a", 1], "a", "a", "a"),
    (UUID, UUID(int=7), "00000000-0000-0000-0000-000000000007", UUID(int=7)),
    (Decimal, Decimal("1.50"), "1.5", Decimal("1.5")),
    (Decimal, Decimal(100), "100", Decimal(100)),
    (Decimal, Decimal("-0.00"), "0", Decimal(0)),
    (Decimal, Decimal("1E+1000"), "1E+1000", Decimal("1E+1000")),
    (Decimal, Decimal("1." + "3" * 60), "1." + "3" * 60, Decimal("1." + "3" * 60)),
    (date, date(2026, 2, 3), "2026-02-03", date(2026, 2, 3)),
    (
        datetime,
        datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=EAST),
        "2026-02-03T02:05:06.000007Z",
        datetime(2026, 2, 3, 2, 5, 6, 7, tzinfo=UTC),
    ),
    (Colour, Colour.RED, "red", Colour.RED),
    (Level, Level.LOW, 1, Level.LOW),
    (Colour | None, Colour.RED, "red", Colour.RED),
    (list[int], [1, 2], [1, 2], [1, 2]),
    (list, [1, "a"], [1, "a"], [1, "a"]),
    (Sequence[int], [1], [1], [1]),
    (list[UUID], [UUID(int=7)], ["00000000-0000-0000-0000-000000000007"], [UUID(int=7)]),
    (
        dict[str, Decimal],
        {"b": Decimal("1.0"), "a": Decimal(2)},
        {"b": "1", "a": "2"},
        {"b": Decimal(1), "a": Decimal(2)},
    ),
    (Mapping[str, Any], {"a": [None]}, {"a": [None]}, {"a": [None]}),
    (tuple[int, str], (1, "a"), [1, "a"], (1, "a")),
    (tuple[UUID, ...], (UUID(int=7),), ["00000000-0000-0000-0000-000000000007"], (UUID(int=7),)),
    (tuple, (1, "a"), [1, "a"], (1, "a")),
    (Any, {"a": [1, None]}, {"a": [1, None]}, {"a": [1, None]}),
]


@pytest.mark.parametrize(
    ("annotation", "value", "wire", "back"),
    TRAVELS,
    ids=[f"{n} {t[0]}" for n, t in enumerate(TRAVELS)],
)
def test_a_value_travels_in_its_canonical_form_and_comes_back(
    annotation: object, value: object, wire: object, back: object
) -> None:
    written, read = there_and_back(annotation, value)

    assert repr(written) == repr(wire)
    assert repr(read) == repr(back)


WRONG: list[tuple[object, object, str]] = [
    (int, "7", "args[0] (value) is a str, int is wanted"),
    (int, True, "is a bool, int is wanted"),
    (int, 7.0, "is a float, int is wanted"),
    (int, None, "is a NoneType, int is wanted"),
    (int, Whole(7), "subclass of int"),
    (int, 2**64, "beyond 64 bits"),
    (str, 7, "is a int, str is wanted"),
    (str, b"x", "base64"),
    (str, Text("x"), "subclass of str"),
    (str, "\ud800", "lone surrogate"),
    (bool, 1, "is a int, bool is wanted"),
    (float, "1", "is a str, float is wanted"),
    (float, True, "is a bool, float is wanted"),
    (float, float("nan"), "nan"),
    (float, 2**53 + 1, "a float would round"),
    (float, 10**400, "beyond 64 bits"),
    (int | None, "7", "is a str, int is wanted"),
    (int | str, 1.5, "is a float, int | str is wanted"),
    (UUID, "00000000-0000-0000-0000-000000000007", "is a str, UUID is wanted"),
    (Decimal, 1.5, "is a float, Decimal is wanted"),
    (Decimal, Decimal("NaN"), "NaN, which is no number"),
    (Decimal, Decimal("sNaN"), "which is no number"),
    (Decimal, Decimal("Infinity"), "which is no number"),
    (datetime, datetime(2026, 1, 1), "naive datetime"),  # noqa: DTZ001 - the point
    (datetime, datetime(1, 1, 1, tzinfo=EAST), "beyond year 1 to 9999"),
    (datetime, date(2026, 1, 1), "datetime is wanted"),
    (date, datetime(2026, 1, 1, tzinfo=UTC), "date is wanted"),
    (Colour, "red", "is a str, a member of Colour is wanted"),
    (Literal["a"], "b", "is 'b': use one of 'a'"),
    (Literal[1], True, "is True: use one of 1"),
    (list[int], (1,), "is a tuple"),
    (list[int], [1, "a"], "args[0] (value)[1] is a str"),
    (list[dict[str, int]], [{"a": 1}, {"b": None}], "args[0] (value)[1].b is a NoneType"),
    (dict[str, int], {1: 1}, "key of type int"),
    (dict[str, int], [("a", 1)], "is a list, dict is wanted"),
    (tuple[int, str], [1, "a"], "is a list, tuple is wanted"),
    (tuple[int, str], (1,), "has 1 items: the annotation says 2"),
    (tuple[int, ...], Point(1), "Point"),
]


@pytest.mark.parametrize(
    ("annotation", "value", "text"), WRONG, ids=[f"{n} {t[0]}" for n, t in enumerate(WRONG)]
)
def test_a_value_of_another_type_is_refused_with_its_path(
    annotation: object, value: object, text: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        of(annotation).dump([value], {})

    assert text in str(caught.value)
    assert str(caught.value).startswith("Charge: args[0] (value)")


LOADS_WRONG: list[tuple[object, object]] = [
    (int, "7"),
    (int, 1.5),
    (int, True),
    (int, None),
    (int | None, "x"),
    (UUID, "x"),
    (UUID, 7),
    (Decimal, "x"),
    (Decimal, "NaN"),
    (datetime, "2026-01-01T00:00:00"),
    (datetime, "tomorrow"),
    (date, "2026-1-1"),
    (date, "20260101"),
    (Colour, "green"),
    (Level, True),
    (list[int], ["x"]),
    (tuple[int, str], [1]),
    (dict[str, int], []),
]


@pytest.mark.parametrize(
    ("annotation", "value"), LOADS_WRONG, ids=[f"{n} {t[0]}" for n, t in enumerate(LOADS_WRONG)]
)
def test_a_payload_of_another_type_is_refused_before_perform(
    annotation: object, value: object
) -> None:
    with pytest.raises(ArgumentError, match=r"^Charge: args\[0\] \(value\)"):
        of(annotation).load([value])


class Odd(Enum):
    PAIR = (1, 2)


class Bits(Flag):
    ONE = 1


REFUSED: list[tuple[object, str]] = [
    (bytes, "base64"),
    (set[int], "sorted"),
    (timedelta, "total_seconds"),
    (Whole, "cannot travel"),
    (Point, "cannot travel"),
    (dict[int, str], "JSON keys are str"),
    (UUID | str, "look alike in JSON"),
    (int | float, "look alike in JSON"),
    (int | Any, "look alike"),
    (Odd, "not all str or int"),
    (Bits, "not all str or int"),
    (Literal[b"x"], "Literal"),
    (type[int], "cannot travel"),
]


@pytest.mark.parametrize(
    ("annotation", "text"), REFUSED, ids=[f"{n} {t[0]}" for n, t in enumerate(REFUSED)]
)
def test_an_annotation_that_cannot_travel_is_refused_at_definition(
    annotation: object, text: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        of(annotation)

    assert text in str(caught.value)
    assert "Charge: parameter 'value'" in str(caught.value)


def charge(number: int, force: bool = False, *rest: int) -> None: ...
def keyword_only(number: int, *, force: bool = False) -> None: ...
def keywords(**options: int) -> None: ...
def positional(number: int, /, force: bool = False) -> None: ...
def untyped(one, two=None): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("function", "text"), [(charge, "list"), (keyword_only, "remove the `\\*`"), (keywords, "dict")]
)
def test_parameters_that_have_no_position_are_refused_at_definition(
    function: Any, text: str
) -> None:
    with pytest.raises(DefinitionError, match=text):
        Arguments.of(function, "Charge")


ARITY: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "number is missing: perform takes (number, force=False)"),
    ((1, False, 3), {}, "3 arguments were given"),
    ((1,), {"forse": True}, "there is no parameter 'forse'"),
    ((1,), {"number": 1}, "'number' was given twice"),
    ((), {"force": True}, "number is missing"),
]


@pytest.mark.parametrize(("args", "kwargs", "text"), ARITY)
def test_arguments_that_match_no_signature_are_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        Arguments.of(positional, "Charge").dump(args, kwargs)

    assert text in str(caught.value)


def test_defaults_are_bound_at_push() -> None:
    arguments = Arguments.of(positional, "Charge")

    assert arguments.dump([7], {}) == [7, False]
    assert arguments.dump([7], {"force": False}) == [7, False]
    assert arguments.dump_rows([(7,), [8, True]]) == [(7, False), (8, True)]


def test_parameters_without_annotations_take_any_json() -> None:
    assert Arguments.of(untyped, "Charge").dump([{"a": 1}], {}) == [{"a": 1}, None]


def test_a_default_of_another_type_is_refused_at_definition() -> None:
    with pytest.raises(DefinitionError, match="it is the default of 'value'"):
        of(int, None)


def test_a_missing_default_is_filled_in_for_perform() -> None:
    assert Arguments.of(positional, "Charge").load([7]) == [7, False]


def test_an_annotation_that_is_defined_later_is_found_at_the_first_use() -> None:
    space: dict[str, Any] = {}
    code = "from __future__ import annotations\ndef perform(kind: Kind) -> None: ...\n"
    exec(compile(code, "later.py", "exec"), space)  # noqa: S102 - a module of its own, in a test
    arguments = Arguments.of(space["perform"], "Charge")

    with pytest.raises(DefinitionError, match="TYPE_CHECKING"):
        arguments.dump([Colour.RED], {})

    space["Kind"] = Colour
    assert arguments.dump([Colour.RED], {}) == ["red"]


def test_a_bad_row_among_many_is_named_by_its_index() -> None:
    rows: list[tuple[object, ...]] = [(number,) for number in range(1000)]
    rows[617] = ("x",)

    with pytest.raises(RowError, match=r"^item 617: Charge: args\[0\]") as caught:
        Arguments.of(positional, "Charge").dump_rows(rows)

    assert caught.value.index == 617


def test_many_rows_are_written_as_one_by_one() -> None:
    arguments = Arguments.of(positional, "Charge")
    rows = [(number, number % 2 == 0) for number in range(100)]

    assert encode_rows(arguments.dump_rows(rows)) == [
        b"[%d,%s]" % (number, b"true" if number % 2 == 0 else b"false") for number in range(100)
    ]


def test_a_text_with_line_breaks_stays_one_row() -> None:
    arguments = of(str)

    assert encode_rows(arguments.dump_rows([("a\nb",), ("\u2028",)])) == [
        b'["a\\nb"]',
        '["\u2028"]'.encode(),
    ]


@pytest.mark.parametrize("row", [7, "ab", {"a": 1}, None, {1}])
def test_a_row_that_is_no_tuple_is_refused(row: Any) -> None:
    with pytest.raises(ArgumentError, match=r"use a tuple of them"):
        of(Any).dump_rows([row])
