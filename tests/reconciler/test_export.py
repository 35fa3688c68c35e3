from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from qik_core.flushing import Found, home_of
from reconciler import parts
from reconciler.export import BadExport, Journal, Line, read, read_header
from reconciler.parts import FileInTheWay


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept.jsonl"


def job(n: int, key: bytes = b"queue:mail", name: str = "Mail", extra: str = "") -> Found:
    raw = f'{{"qik":"-","jid":"{n:024x}","queue":"mail","class":"{name}","args":["{extra}"]}}'.encode()
    home = home_of(key)
    assert home is not None
    found = Found.of(raw, home, None if home.is_list else 1.5)
    assert found is not None
    return found


def journal(path: Path, **rest: Any) -> Journal:
    return Journal(path, who="alice", reason="a test", at=5.0, **rest)


def written(path: Path, *jobs: Found) -> Path:
    with journal(path) as file:
        file.write(jobs)
        file.finish()
    return path


def lines(path: Path) -> list[Line]:
    return list(read(path, read_header(path)))


def numbers(path: Path) -> list[int]:
    return [int(line.jid, 16) for line in lines(path)]


def test_what_was_written_is_read_byte_for_byte(path: Path) -> None:
    odd = job(2, b"schedule", extra="é \\u0000 \\n 😀")

    written(path, job(1), odd)

    first, second = lines(path)
    assert (first.raw, first.home, first.score) == (job(1).raw, job(1).home, None)
    assert (second.raw, second.score, second.name) == (odd.raw, 1.5, "Mail")
    head = read_header(path)
    assert (head.jobs, head.classes, head.who, head.reason, head.at) == (
        2,
        {"Mail": 2},
        "alice",
        "a test",
        5.0,
    )


def test_bytes_that_are_no_text_are_kept_as_they_are(path: Path) -> None:
    raw = b'{"qik":"-","jid":"a","queue":"mail","x":"\xff\xfe"}'
    home = home_of(b"queue:mail")
    assert home is not None
    found = Found.of(raw, home)
    assert found is not None

    written(path, found)

    assert lines(path)[0].raw == raw


def test_only_its_owner_can_read_a_file(path: Path) -> None:
    before = os.umask(0)
    try:
        with journal(path) as file:
            assert path.with_name("kept.jsonl.part").stat().st_mode & 0o777 == 0o600
            file.finish()
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_appears_whole_at_the_end_and_nothing_else_is_left(path: Path) -> None:
    with journal(path) as file:
        file.write([job(1)])
        assert not path.exists()
        file.finish()

    assert [each.name for each in path.parent.iterdir()] == ["kept.jsonl"]


def test_what_is_taken_back_is_not_in_the_file(path: Path) -> None:
    with journal(path) as file:
        first, second, third = file.write([job(1), job(2), job(3)])
        file.settle([], [second])
        file.write([job(4)])
        file.settle([], [])
        file.finish()

    assert numbers(path) == [1, 3, 4]
    assert first < second < third


def test_the_next_try_goes_on_with_what_the_last_one_has_written(path: Path) -> None:
    with journal(path) as file:
        file.write([job(1), job(2)])
        first = file.id
    with journal(path) as file:
        assert (file.id, file.resumed) == (first, 2)
        file.write([job(2, extra="again"), job(3)])
        file.finish()

    assert numbers(path) == [1, 2, 3]
    assert b"again" in lines(path)[1].raw, "as it was written last"


def test_a_line_that_was_cut_by_a_death_is_written_again(path: Path) -> None:
    part = path.with_name("kept.jsonl.part")
    for cut in (1, 30, 200):
        part.unlink(missing_ok=True)
        with journal(path) as file:
            file.write([job(1), job(2)])
        os.truncate(part, part.stat().st_size - cut)
        with journal(path) as file:
            file.write([job(2)])
            file.finish()

        assert numbers(path) in ([1, 2], [2]), cut
        path.unlink()


def test_a_header_that_was_cut_by_a_death_is_written_again(path: Path) -> None:
    path.with_name("kept.jsonl.part").write_text('{"qik_exp')

    written(path, job(1))

    assert numbers(path) == [1]


def test_a_try_that_has_written_nothing_leaves_nothing(path: Path) -> None:
    with journal(path):
        pass

    assert list(path.parent.iterdir()) == []


def test_a_file_that_is_there_is_never_written_over(path: Path) -> None:
    path.write_text("mine")

    with pytest.raises(FileInTheWay, match="exists already"):
        journal(path)
    assert path.read_text() == "mine"


def test_an_export_does_not_go_on_with_what_a_flush_has_left(path: Path) -> None:
    with journal(path) as file:
        file.write([job(1)])

    with pytest.raises(FileInTheWay, match="a flush that died"):
        journal(path, fresh=True)


def test_two_processes_do_not_write_one_file(path: Path) -> None:
    with journal(path), pytest.raises(FileInTheWay, match="another process"):
        journal(path)


def test_who_waited_for_a_file_that_is_whole_by_now_does_not_write_it_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = journal(path)
    first.write([job(1)])
    opened = parts._opened

    def late(part: Path) -> Any:
        file = opened(part)
        if not path.exists():
            first.finish()  # between the look for the file and its lock
        return file

    monkeypatch.setattr(parts, "_opened", late)
    with pytest.raises(FileInTheWay, match="exists already"):
        journal(path)

    assert numbers(path) == [1]
    assert [each.name for each in path.parent.iterdir()] == ["kept.jsonl"]


def test_a_file_that_is_whole_leaves_the_part_of_the_next_one_alone(path: Path) -> None:
    first = journal(path)
    first.finish()
    path.unlink()
    second = journal(path)
    second.write([job(2)])
    first.close()
    second.finish()

    assert numbers(path) == [2]


def test_a_file_that_appears_meanwhile_is_not_written_over_and_no_job_is_lost(path: Path) -> None:
    with journal(path) as file:
        file.write([job(1)])
        path.write_text("mine")
        with pytest.raises(FileInTheWay, match="has appeared meanwhile"):
            file.finish()

    assert path.read_text() == "mine"
    assert sorted(each.name for each in path.parent.iterdir()) == ["kept.jsonl", "kept.jsonl.part"]
    path.unlink()
    written(path, job(2))
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_appears_also_where_there_are_no_hard_links(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "link", refuse)
    if number == errno.EIO:
        with pytest.raises(OSError, match="no"):
            written(path, job(1))
        assert not path.exists()
        return

    written(path, job(1))

    assert numbers(path) == [1]
    assert [each.name for each in path.parent.iterdir()] == ["kept.jsonl"]


def test_the_next_try_is_told_of_which_jobs_it_is_not_written_down_whether_they_have_left(
    path: Path,
) -> None:
    with journal(path) as file:
        assert file.unsure == {}
        one, two, three, _ = file.write([job(1), job(2), job(3), job(4)])
        file.settle([one], [two])
    with journal(path) as file:
        assert set(file.unsure) == {job(3).jid, job(4).jid}
        file.settle([], [file.unsure[job(3).jid]])
        file.settle([file.unsure[job(4).jid]])
    with journal(path) as file:
        assert file.unsure == {}
        file.finish()

    assert three
    assert numbers(path) == [1, 4]


@pytest.mark.parametrize("lines", ['{"gone":[1],"not":[2]}\n', '{"not":[2]}\n{"gone":[1]}\n'])
def test_what_became_of_a_step_is_one_line_and_was_two(path: Path, lines: str) -> None:
    part = path.with_name("kept.jsonl.part")
    with journal(path) as file:
        file.write([job(1), job(2), job(3)])
        written = part.read_text()
        file.settle([1], [2])
    assert part.read_text() == written + '{"gone":[1],"not":[2]}\n'
    part.write_text(written + lines)

    with journal(path) as file:
        assert file.unsure == {job(3).jid: 3}
        file.finish()
    assert numbers(path) == [1, 3]


def test_a_part_that_is_a_link_to_elsewhere_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.with_name("kept.jsonl.part").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match=r"symbolic|symlink|levels"):
        journal(path)
    assert not (tmp_path / "victim").exists()


# --- damage --------------------------------------------------------------------------------------


def damaged(path: Path, number: int, change: Any) -> None:
    """Change one line of a file, counted from 1."""
    rows = path.read_bytes().splitlines(keepends=True)
    rows[number - 1] = change(rows[number - 1])
    path.write_bytes(b"".join(rows))


def resummed(**changes: Any) -> Any:
    """Return a change of fields that a sum of the line does not give away."""
    from reconciler.export import _sum

    def change(row: bytes) -> bytes:
        line = json.loads(row) | changes
        return json.dumps(line | {"sum": _sum(line)}).encode() + b"\n"

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda row: row.replace(b"Mail", b"Male", 1), "line 3 is damaged", id="class"),
        pytest.param(lambda row: row.replace(b"mail", b"male", 1), "line 3 is damaged", id="queue"),
        pytest.param(lambda row: row[:-9] + b"\n", "line 3 is no JSON", id="cut"),
        pytest.param(lambda _: b"[]\n", "line 3 is no JSON object", id="list"),
        pytest.param(lambda _: b"\xff\n", "line 3 is no JSON", id="bytes"),
        pytest.param(lambda _: b'{"n":2}\n', "line 3 is damaged", id="fields"),
        pytest.param(resummed(at="mine"), "line 3 is damaged", id="place"),
        pytest.param(resummed(at="queue:a b"), "line 3 is damaged", id="name"),
        pytest.param(resummed(at="schedule"), "line 3 is damaged", id="no score"),
        pytest.param(resummed(score=1.0), "line 3 is damaged", id="score"),
        pytest.param(resummed(at="dead", score=float("nan")), "line 3 is damaged", id="nan"),
        pytest.param(resummed(jid="b"), "line 3 is damaged", id="jid"),
        pytest.param(resummed(raw='{"class":"Ruby"}'), "line 3 is damaged", id="foreign"),
        pytest.param(resummed(jid=5), "line 3 is damaged", id="type"),
        pytest.param(lambda _: b"", "3 jobs, and there are 2", id="missing"),
        pytest.param(lambda row: row * 2, "3 jobs, and there are 4", id="twice"),
    ],
)
def test_a_damaged_file_is_refused_and_says_where(path: Path, change: Any, said: str) -> None:
    written(path, job(1), job(2), job(3))
    damaged(path, 3, change)

    with pytest.raises(BadExport, match=said):
        lines(path)


def test_lines_in_another_order_are_not_those_that_were_written(path: Path) -> None:
    written(path, job(1), job(2))
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + second + first)

    with pytest.raises(BadExport, match="digest"):
        lines(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 is no JSON"),
        ("hello\n", "line 1 is no JSON"),
        ('{"a":1}\n', "line 1 is no header"),
        ('{"qik_export":2}\n', "a later release"),
        ('{"qik_export":1,"id":"../../x"}\n', "header is damaged"),
        ('{"qik_export":1,"id":"0123456789ab","complete":false,"who":"","reason":"","at":1}\n', "not complete"),
    ],
    ids=["empty", "text", "other", "later", "id", "part"],
)  # fmt: skip
def test_what_is_no_export_is_refused_by_its_first_line(path: Path, text: str, said: str) -> None:
    path.write_text(text)

    with pytest.raises(BadExport, match=said):
        read_header(path)
