from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qik_core.switches import Condition, Field, Operator, Rule
from reconciler.switches.file import BadFile, File, parse
from tests.waiting import eventually

EVERYTHING = """
disable_charge_invoice = true
disable_queue_slow = "the mail provider is down"
disable_other = false

[disable_sync_invoice]
percent = 90
reason = "INC-42"
who = "ana"
expires = 2026-11-22T18:00:00Z
tenant = ["acme", 7]
not_key = "8"

[[disable_mail]]
tenant = "acme"
[[disable_mail]]
queue = ["bulk"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "off.toml"


@pytest.fixture
def begin(path: Path) -> Iterator[Callable[[], File]]:
    started: list[File] = []

    def start() -> File:
        started.append(File(path))
        started[-1].start(lambda: None)
        return started[-1]

    yield start
    for each in started:
        each.close()


def put(path: Path, text: str) -> None:
    """Replace a file as a deployment does: whole."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def age(path: Path) -> None:
    """Let a file be one that was left alone for long."""
    os.utime(path, (1, 1))


def look(file: File) -> None:
    """Look twice, as the thread does within half a second."""
    file.look()
    file.look()


def test_a_file_says_whom_flags_stop_why_and_until_when() -> None:
    found = parse(EVERYTHING, json_=False)

    assert found == {
        "disable_charge_invoice": (Rule(source="file"),),
        "disable_queue_slow": (Rule(source="file", reason="the mail provider is down"),),
        "disable_sync_invoice": (
            Rule(
                source="file",
                percent=90.0,
                reason="INC-42",
                who="ana",
                expires_at=1795370400.0,
                where=(
                    Condition(Field.TENANT, Operator.IN, ("acme", "7")),
                    Condition(Field.KEY, Operator.NOT_IN, ("8",)),
                ),
            ),
        ),
        "disable_mail": (
            Rule(source="file", where=(Condition(Field.TENANT, Operator.IN, ("acme",)),)),
            Rule(source="file", where=(Condition(Field.QUEUE, Operator.IN, ("bulk",)),)),
        ),
    }


def test_json_says_the_same_as_toml() -> None:
    text = (
        '{"disable_x": {"percent": 10, "expires": "2026-11-22T18:00:00+00:00"}, "disable_y": true}'
    )

    assert parse(text, json_=True) == {
        "disable_x": (Rule(source="file", percent=10.0, expires_at=1795370400.0),),
        "disable_y": (Rule(source="file"),),
    }
    assert parse('{"disable_x": {"expires": 7}}', json_=True)["disable_x"][0].expires_at == 7.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("  \n", "it is empty"),
        ("charge_invoice = true", "begins with disable_"),
        ("disable_x = 7", "use true, false"),
        ("[disable_x]\npersent = 7", "there is no 'persent'; did you mean 'percent'?"),
        ("[disable_x]\npercent = 0", "more than 0 and up to 100"),
        ("[disable_x]\npercent = '9'", "more than 0 and up to 100"),
        ("[disable_x]\ntenant = []", "use a text, or a list of texts"),
        ("[disable_x]\nreason = 7", "reason is 7: use a text"),
        ("[disable_x]\nexpires = 'soon'", "use a moment"),
        ("[disable_x]\nexpires = 2026-11-22", "use a moment"),
        ("disable_x = [7]", "use true, false"),
    ],
)
def test_an_entry_that_no_switch_can_be_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(BadFile, match=said):
        parse(text, json_=False)


def test_a_file_is_known_soon_after_the_start_and_a_change_is_told(
    path: Path, begin: Callable[[], File]
) -> None:
    path.write_text("disable_x = true\n")
    changed = threading.Event()
    file = File(path)
    file.start(changed.set)
    try:
        eventually(lambda: file.rules() == {"disable_x": (Rule(source="file"),)})
        assert file.health() == ""
        changed.clear()

        put(path, "disable_y = true\n")

        eventually(lambda: "disable_y" in (file.rules() or {}))
        assert changed.wait(5)
    finally:
        file.close()


def test_a_file_that_was_never_there_is_not_known(path: Path) -> None:
    file = File(path)

    look(file)

    assert file.rules() is None
    assert "No such file" in file.health()


@pytest.mark.parametrize(
    "garbage", ["", "<html>", "disable_y = ", "disable_y = tru", "disable_y = 7", "\0", "é\udce9"]
)
def test_garbage_changes_nothing_and_is_said(
    path: Path, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("disable_x = true\n")
    file = File(path)
    look(file)

    path.write_bytes(garbage.encode("utf-8", "surrogateescape"))
    look(file)
    look(file)

    assert list(file.rules() or ()) == ["disable_x"]
    assert "what it said before holds" in file.health()
    said = [each for each in caplog.records if "is not taken" in each.message]
    assert len(said) == 1

    put(path, "disable_y = true\n")
    look(file)
    assert (list(file.rules() or ()), file.health()) == (["disable_y"], "")


def test_a_file_that_is_gone_or_no_file_changes_nothing(path: Path) -> None:
    path.write_text("disable_x = true\n")
    file = File(path)
    look(file)

    path.unlink()
    look(file)
    assert (list(file.rules() or ()), "No such file" in file.health()) == (["disable_x"], True)

    os.mkfifo(path)  # to read it would wait for ever
    look(file)
    assert (list(file.rules() or ()), "no plain file" in file.health()) == (["disable_x"], True)

    path.unlink()
    path.write_text("disable_x = true\n#" + "x" * 1_000_000)
    look(file)
    assert "more than 1,000,000 bytes" in file.health()


def test_the_first_half_of_a_file_is_not_read_while_somebody_writes_it(path: Path) -> None:
    path.write_text("disable_x = true\n")
    age(path)
    file = File(path)
    file.look()
    assert list(file.rules() or ()) == ["disable_x"]

    with path.open("w") as writing:  # as an editor does that writes in place
        file.look()
        assert list(file.rules() or ()) == ["disable_x"]
        for flag in ("disable_a", "disable_b", "disable_c"):
            writing.write(f"{flag} = true\n")
            writing.flush()
            file.look()
            assert list(file.rules() or ()) == ["disable_x"]
    file.look()

    assert list(file.rules() or ()) == ["disable_a", "disable_b", "disable_c"]


def test_a_file_that_was_left_alone_is_read_at_the_first_look(path: Path) -> None:
    path.write_text("disable_x = true\n")
    age(path)
    file = File(path)

    file.look()

    assert list(file.rules() or ()) == ["disable_x"]


def test_a_link_that_is_turned_to_another_file_is_followed(path: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text("disable_x = true\n")
    two.write_text("disable_y = true\n")
    path.symlink_to(one)
    file = File(path)
    look(file)

    path.unlink()
    path.symlink_to(two)
    look(file)

    assert list(file.rules() or ()) == ["disable_y"]


def test_switches_that_are_taken_out_of_the_file_are_off(path: Path) -> None:
    path.write_text("disable_x = true\n")
    file = File(path)
    look(file)

    put(path, "# nothing is off\n")
    look(file)

    assert (file.rules(), file.health()) == ({}, "")


def test_a_flag_that_stops_nothing_is_said_with_the_one_that_may_be_meant(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("disable_wrok = true\ndisable_mail = true\n")
    file = File(path, lambda: ["disable_work", "disable_mail"])

    look(file)

    assert file.health() == "disable_wrok stops nothing here; did you mean 'disable_work'?"
    assert list(file.rules() or ()) == ["disable_wrok", "disable_mail"]
    assert len([each for each in caplog.records if "disable_wrok" in each.getMessage()]) == 1


@pytest.mark.parametrize(
    "entry",
    [
        "expires = inf",
        "expires = nan",
        f"expires = 1{'0' * 400}",
        'reason = "\\u0000"',
        f'reason = "{"x" * 16_001}"',
        'tenant = "a\\u0000"',
    ],
)
def test_an_entry_that_no_database_can_keep_is_left_out_alone_and_said(
    path: Path, entry: str
) -> None:
    path.write_text("disable_x = true\n")
    file = File(path)
    look(file)

    put(path, f"disable_z = true\n[disable_x]\n{entry}\n[disable_y]\n{entry}\n")
    look(file)

    assert file.rules() == {
        "disable_x": (Rule(source="file"),),
        "disable_z": (Rule(source="file"),),
    }
    assert "disable_x" in file.health()
    assert "disable_y" in file.health()


def test_a_name_that_no_flag_can_have_is_left_out_alone_and_said(path: Path) -> None:
    path.write_text(f'disable_y = true\n"disable_\\u0000" = true\ndisable_{"x" * 192} = true\n')
    file = File(path)

    look(file)

    assert list(file.rules() or ()) == ["disable_y"]
    assert file.health().count("no name of a switch") == 2
