"""The pages of docs/tutorial/, typed: every block, in an empty folder and an environment with the wheel, outputs compared.

What a block is stands behind its language:

    console            each line with $ is typed into the first terminal, and prints what stands below it
    console second     the same in a second terminal
    … again            its one command is repeated until it prints that
    … runs             its one command goes on; it prints that, and more
    … shows            what that command prints later on
    … stops            Ctrl-C, and what it prints until it ends
    python run FILE    is saved as FILE
    toml FILE          is saved as FILE

In an output `…` is anything within a line, or, alone on a line, any lines; spaces count as one. In a command `…` stands for
what was printed in that place before.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.waiting import eventually

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
PATIENCE: Final = 45.0
END: Final = "--- ended with"
_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of a page; `line` is where it begins there."""

    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    def steps(self) -> Iterator[tuple[str, str]]:
        """Yield each command with what it prints; a block that only shows something has one without a command."""
        command, output = "", list[str]()
        for line in self.text.splitlines():
            if line.startswith(("$ ", "^C")):
                if command:
                    yield command, "\n".join(output)
                command, output = line.removeprefix("$ "), []
            else:
                output.append(line)
        yield command, "\n".join(output)


def blocks(page: str) -> Iterator[Block]:
    for found in _FENCE.finditer(page):
        language, *marks = found[1].split() or [""]
        line = page.count("\n", 0, found.start()) + 1
        yield Block(line, language, tuple(marks), found[2])


def fits(shown: str, printed: str, *, among: bool = False) -> bool:
    """Tell whether what was printed is what a page shows; `among`: whether it is somewhere in it."""
    wanted = [_expression(line) for line in shown.splitlines()]
    if among:
        wanted = [None, *wanted, None]
    at = _passed(wanted, {0})
    for line in _lines(printed):
        stays = {each for each in at if each < len(wanted) and wanted[each] is None}
        moves = {each + 1 for each in at - stays if _is(wanted, each, line)}
        at = _passed(wanted, stays | moves)
    return len(wanted) in at


def _expression(line: str) -> re.Pattern[str] | None:
    """Return what fits one line; None for any lines."""
    words = " ".join(line.split())
    return None if words == "…" else re.compile(".*?".join(map(re.escape, words.split("…"))))


def _is(wanted: list[re.Pattern[str] | None], at: int, line: str) -> bool:
    one = wanted[at] if at < len(wanted) else None
    return one is not None and one.fullmatch(line) is not None


def _passed(wanted: list[re.Pattern[str] | None], at: set[int]) -> set[int]:
    """Return the places with those that are reached from them by any lines being none."""
    for each in range(len(wanted)):
        if each in at and wanted[each] is None:
            at = at | {each + 1}
    return at


def _lines(text: str) -> list[str]:
    return [line for line in (" ".join(each.split()) for each in text.splitlines()) if line]


@dataclass
class Terminal:
    """A shell, and all that was printed in it. Commands that go on are in a process group with it."""

    folder: Path
    environment: dict[str, str]
    printed: str = ""
    read: int = 0
    shell: subprocess.Popen[str] = field(init=False)
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.shell.stdout is not None
        for line in self.shell.stdout:
            self.printed += line

    def type(self, command: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{{ {command}\n}} </dev/null; echo {END} $?\n")
        self.shell.stdin.flush()

    def run(self, command: str) -> tuple[int, str]:
        """Type a command; return its exit code and what it printed."""
        self.type(command)
        ended = eventually(self._ended, 150.0, f"the end of `{command}`")
        assert ended is not None
        return ended

    def _ended(self) -> tuple[int, str] | None:
        found = re.compile(rf"(.*?){END} (\d+)\n", re.DOTALL).match(self.printed, self.read)
        if found is None:
            return None
        self.read = found.end()
        return int(found[2]), found[1]

    def shows(self, shown: str) -> None:
        """Wait until a command that goes on has printed this."""
        eventually(
            lambda: fits(shown, self.printed[self.read :], among=True),
            PATIENCE,
            f"{shown}\nin\n{self.printed[self.read :][-3000:]}",
            every=0.2,
        )

    def close(self) -> None:
        os.killpg(self.shell.pid, signal.SIGTERM)
        self.shell.kill()
        self.shell.communicate()


class Reader:
    """Somebody who reads a page and does what it says."""

    def __init__(self, folder: Path, environment: dict[str, str], page: Path) -> None:
        self.page = page
        self.folder = folder
        self.environment = environment
        self.terminals: dict[str, Terminal] = {}

    def terminal(self, name: str) -> Terminal:
        if name not in self.terminals:
            self.terminals[name] = Terminal(self.folder, self.environment)
        return self.terminals[name]

    def follow(self, block: Block) -> None:
        match block.language, *block.marks:
            case ["python", "run", name] | ["toml", name]:
                _, here = self.terminal("first").run("pwd")
                (Path(here.strip()) / name).write_text(block.text, encoding="utf-8")
            case ["console", *marks]:
                name = "second" if "second" in marks else "first"
                self._type(self.terminal(name), block, {*marks} - {"second"})
            case _:
                pytest.fail(f"{self.page.name}:{block.line}: what is this block for?")

    def _type(self, terminal: Terminal, block: Block, marks: set[str]) -> None:
        where = f"{self.page.name}:{block.line}"
        for command, shown in block.steps():
            if marks == {"stops"}:
                os.killpg(terminal.shell.pid, signal.SIGINT)
            if marks == {"runs"}:
                terminal.type(self._filled(command))
            if marks & {"runs", "shows", "stops"}:
                terminal.shows(shown)
            elif marks == {"again"}:
                self._repeat(terminal, command, shown, where)
            else:
                assert marks == set(), where
                good, said = self._fits(terminal, command, shown)
                assert good, f"{where}: `{command}` shows\n{said}"

    def _repeat(self, terminal: Terminal, command: str, shown: str, where: str) -> None:
        eventually(lambda: self._fits(terminal, command, shown)[0], PATIENCE, where, every=0.3)

    def _fits(self, terminal: Terminal, command: str, shown: str) -> tuple[bool, str]:
        code, said = terminal.run(self._filled(command))
        if "pip install" in command:
            _lend_libraries(terminal)
        return code == 0 and fits(shown, said), f"{said}(exit code {code})"

    def _filled(self, command: str) -> str:
        """Return a command with what was printed before in place of `…`."""
        word = next((each for each in re.split(r"[\s=]", command) if "…" in each), None)
        if word is None:
            return command
        like = re.compile(r"\S*".join(map(re.escape, word.split("…"))))
        found = like.search("".join(each.printed for each in self.terminals.values()))
        assert found, f"{self.page.name}: nothing like {word} was printed"
        return command.replace(word, found[0])


def _lend_libraries(terminal: Terminal) -> None:
    """Let the new environment find the libraries of this one behind its own packages: what it installed is the wheel alone."""
    _, where = terminal.run("python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'")
    (Path(where.strip()) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def environment(tmp_path: Path, wheel: Path) -> dict[str, str]:
    """What a newcomer's shell has: a Python, and an index with our wheel on it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n')
    python.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV"))
    }
    return {
        **kept,
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "COLUMNS": "120",
        "LC_ALL": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_FIND_LINKS": str(wheel),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "QIK_HEARTBEAT": "0.5",
        "QIK_LEASE": "3",
        "QIK_SHUTDOWN": "1",
    }


def follow(page: Path, folder: Path, environment: dict[str, str]) -> None:
    """Do what a page says, in a folder."""
    reader = Reader(folder, environment, page)
    try:
        for block in blocks(page.read_text(encoding="utf-8")):
            reader.follow(block)
    finally:
        for terminal in reader.terminals.values():
            terminal.close()


@pytest.mark.timeout(400)  # an environment is made, a package installed, and everything started
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_newcomer_who_types_what_stands_there_sees_what_stands_there(
    page: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    follow(page, folder, environment)


@pytest.mark.parametrize(
    ("shown", "printed", "good"),
    [
        ("a b\nc", "a   b\n\nc\n", True),
        ("a … c", "a bb b c\n", True),
        ("a … c", "a b d\n", False),
        ("a\n…\nd", "a\nd\n", True),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\n…\nd", "a\nb\nc\n", False),
        ("a", "a\nb\n", False),
        ("", "", True),
        ("", "a\n", False),
    ],
)
def test_an_output_fits_what_a_page_shows_or_it_does_not(
    shown: str, printed: str, good: bool
) -> None:
    assert fits(shown, printed) is good
    assert not good or fits(shown, f"before\n{printed}after\n", among=True)


WRONG = {
    "another output": "```console\n$ echo 5\n6\n```\n",
    "an output that nobody shows": "```console\n$ echo 5\n```\n",
    "a command that fails": "```console\n$ false\n```\n",
    "a block of no known kind": "```\necho 5\n```\n",
    "what was never printed": "```console\n$ echo there-is-no-…\n```\n",
    "a file that lacks a line": "```toml qik.toml\na = 1\n```\n```console\n$ cat qik.toml\na = 2\n```\n",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_page_that_shows_something_else_is_found(what: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(WRONG[what], encoding="utf-8")
    with pytest.raises((AssertionError, pytest.fail.Exception), match=r"page\.md"):
        follow(page, tmp_path, dict(os.environ))


def test_two_terminals_share_a_folder_and_what_was_printed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ echo key-$((40 + 2))\nkey-42\n$ x=5\n```\n"
        "```console second\n$ echo $x key-… > file\n```\n"
        "```console again\n$ cat file\nkey-42\n```\n"
        "```console runs\n$ echo begun; exec sleep 60\nbegun\n```\n",
        encoding="utf-8",
    )
    follow(page, tmp_path, dict(os.environ))
