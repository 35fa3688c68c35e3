"""The pages of docs/ that say "run": their Python is executed as it stands there.

A block that begins with ```python run is part of the page's test module; ```python run shop.py puts it into that file
instead. All blocks of a page make one small project, in the order of the page, which pytest then runs. A line of a page is
the same line in the module, so an error points at the page.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pytests import run_pytest

DOCS = Path(__file__).parents[1] / "docs"
_FENCE = re.compile(r"^```(.*)$")
_NOTHING_COLLECTED = 5


@dataclass(frozen=True)
class Block:
    """One block of Python on a page."""

    line: int
    """Of the page, where its first line stands."""
    marks: tuple[str, ...]
    """The words behind `python`."""
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of Python of a page."""
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif opened is None:
            opened, lines = (number, fence[1].strip()), []
        else:
            language, *marks = opened[1].split() or [""]
            if language == "python":
                yield Block(opened[0] + 1, tuple(marks), "\n".join(lines))
            opened = None


def project(page: str, name: str) -> dict[str, str]:
    """Return the files that a page's runnable blocks make: name → text, each line where it is on the page."""
    made: defaultdict[str, list[str]] = defaultdict(list)
    for block in blocks(page):
        if block.marks[:1] == ("run",):
            lines = made[block.marks[1] if len(block.marks) > 1 else name]
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
    return {file: "\n".join(lines) + "\n" for file, lines in made.items()}


PAGES = {
    page.relative_to(DOCS).as_posix(): page.read_text(encoding="utf-8")
    for page in sorted(DOCS.rglob("*.md"))
}
RUNNABLE = [name for name, page in PAGES.items() if "```python run" in page]


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_python_of_a_page_runs_as_it_stands_there(
    name: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    module = f"test_{Path(name).stem.replace('-', '_')}.py"

    ran = run_pytest(tmp_path, project(PAGES[name], module), "-W", "error")

    assert ran.code in (0, _NOTHING_COLLECTED), f"docs/{name}\n{ran.said}"


@pytest.mark.parametrize("name", PAGES)
def test_blocks_of_python_are_marked_with_known_words_and_can_be_read(name: str) -> None:
    for block in blocks(PAGES[name]):
        assert block.marks == () or block.marks[0] == "run", f"docs/{name}:{block.line}"
        assert len(block.marks) <= 2, f"docs/{name}:{block.line}"
        if block.marks:
            compile(block.text, f"docs/{name}:{block.line}", "exec")


def test_a_wrong_example_is_found_and_its_line_is_that_of_the_page(tmp_path: Path) -> None:
    page = (
        "# A page\n\n```python run\nx = 1\n```\n\n```python\nnot python\n```\n\n"
        "```python run\ndef test_it():\n    assert x == 2\n```\n"
    )

    ran = run_pytest(tmp_path, project(page, "test_page.py"))

    assert ran.code == 1
    assert "test_page.py:13: AssertionError" in ran.said


def test_blocks_may_be_other_files_of_the_page(tmp_path: Path) -> None:
    page = (
        "```python run shop.py\nprice = 5\n```\n```sh\nls\n```\n"
        "```python run\nfrom shop import price\n\ndef test_it():\n    assert price == 5\n```\n"
    )

    assert run_pytest(tmp_path, project(page, "test_page.py")).code == 0
