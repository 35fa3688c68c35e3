"""The rules of the house that no linter knows, each a pure function: source text in, complaints out."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from statistics import median
from typing import Final, TypeAlias

Rule: TypeAlias = Callable[[str], list[str]]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

LONGEST_MODULE: Final = 400
LONGEST_FUNCTION: Final = 50
LONGEST_LINE: Final = 130
LONGEST_SCRIPT: Final = 40
USUAL_FUNCTION: Final = 8

_NEVER_IMPORTED: Final = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
_NEVER_CALLED: Final = {"eval", "exec", "__import__"}
_NEVER_SENT: Final = {"flushall", "flushdb", "keys"}
_WORDS: Final = {
    r"\bsweep(s|er|ers|ing)?\b": "pass, walk or roll",
    r"\bpark(s|ed|ing)?\b": "hold, held",
    r"\bkill(s|ed|ing)? (a |the |this |that |dead )?jobs?\b": "bury",
    r"\b(TODO|FIXME|XXX|HACK)\b": "an issue, or the thing itself",
    r"\b(master|slave)s?\b": "primary, replica",
}
_PASS_WORDS: Final = {r"\btick(s|ed|ing)?\b": "pass"}
_MACHINE: Final = re.compile(r"(?<![\w.~*}])/(?:work|root|home/\w+|Users/\w+)(?:/|\b)")


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def forget() -> None:
    """Let go of what was parsed: all files together take a lot of memory."""
    _parse.cache_clear()


def _functions(text: str) -> Iterator[Function]:
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _lines(function: Function) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def _body_lines(function: Function) -> int:
    """Count the lines of a function without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def short_modules(text: str) -> list[str]:
    """A module fits into a head: at most 400 lines."""
    length = len(text.splitlines())
    return [f"{length} lines; {LONGEST_MODULE} at most"] if length > LONGEST_MODULE else []


def short_functions(text: str) -> list[str]:
    """A function fits on a screen: under 50 lines."""
    return [
        f"line {function.lineno}: {function.name} has {_lines(function)} lines; under {LONGEST_FUNCTION}"
        for function in _functions(text)
        if _lines(function) >= LONGEST_FUNCTION
    ]


def usual_function(texts: list[str]) -> float:
    """Return the median length of all functions of a package, without docstrings."""
    return median([_body_lines(function) for text in texts for function in _functions(text)] or [0])


def short_lines(text: str) -> list[str]:
    """A line of prose or code is read without scrolling."""
    return [
        f"line {number}: {len(line)} characters; {LONGEST_LINE} at most"
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > LONGEST_LINE and "http" not in line and "noqa" not in line
    ]


def has_docstring(text: str) -> list[str]:
    """A module says what it is."""
    return [] if not text.strip() or ast.get_docstring(_parse(text)) else ["no docstring"]


def has_future_import(text: str) -> list[str]:
    """`from __future__ import annotations` stands first."""
    if not text.strip():
        return []
    module = _parse(text)
    body = module.body
    if ast.get_docstring(module) is not None:
        body = body[1:]
    first = body[0] if body else None
    if isinstance(first, ast.ImportFrom) and first.module == "__future__":
        return []
    return ["`from __future__ import annotations` is not the first statement"] if body else []


def no_hidden_imports(text: str) -> list[str]:
    """Imports point down, so none is hidden from the runtime."""
    for node in ast.walk(_parse(text)):
        named = isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"
        reached = isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING"
        if named or reached:
            return ["TYPE_CHECKING; move what is needed to a lower layer"]
    return []


def no_foreign_code(text: str) -> list[str]:
    """Nothing from Redis is imported, evaluated or unpickled."""
    found = []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = {node.func.id} & _NEVER_CALLED
        else:
            continue
        found += [
            f"line {node.lineno}: {name}" for name in names & (_NEVER_IMPORTED | _NEVER_CALLED)
        ]
    return found


def no_whole_database(text: str) -> list[str]:
    """FLUSHALL, FLUSHDB and KEYS are never sent."""
    found = []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            raw = node.value
            word = (raw.decode("latin-1") if isinstance(raw, bytes) else raw).strip()
            sent = word.lower() in _NEVER_SENT and (
                word.isupper() or word.lower().startswith("flush")
            )
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            word = node.func.attr
            pattern = bool(node.args) and isinstance(node.args[0], ast.Constant)
            sent = word in _NEVER_SENT and (word != "keys" or pattern)
        else:
            continue
        if sent:
            found.append(f"line {node.lineno}: {word}")
    return found


def no_whole_database_script(text: str) -> list[str]:
    """No script sends FLUSHALL, FLUSHDB or KEYS."""
    return [
        f"line {number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"""call\(\s*["'](flushall|flushdb|keys)["']""", line, re.IGNORECASE)
    ]


def no_pause(text: str) -> list[str]:
    """A test waits for a condition with a deadline, never for a time."""
    return [
        f"line {node.lineno}: time.sleep; use tests.waiting.eventually"
        for node in ast.walk(_parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}
    ]


def our_words(text: str) -> list[str]:
    """One word per thing."""
    return _worded(text, _WORDS)


def words_of_passes(text: str) -> list[str]:
    """In the reconciler a pass is a pass."""
    return _worded(text, _PASS_WORDS)


def _worded(text: str, words: dict[str, str]) -> list[str]:
    return [
        f"line {number}: {match[0]!r}; the word is: {right}"
        for number, line in enumerate(text.splitlines(), 1)
        for wrong, right in words.items()
        for match in re.finditer(
            wrong, line, 0 if wrong.isupper() or "TODO" in wrong else re.IGNORECASE
        )
    ]


def no_machine(text: str) -> list[str]:
    """Nothing names a path of the machine where it was written."""
    return [
        f"line {number}: {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in _MACHINE.finditer(line)
    ]


def no_trick_characters(text: str) -> list[str]:
    """No invisible, direction-changing or private characters, and no letters that look like others."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for character in line:
            category = unicodedata.category(character)
            odd_letter = (
                character != "µ"
                and category in {"Lu", "Ll", "Lo", "Lm"}
                and "LATIN" not in unicodedata.name(character, "")
            )
            if (
                category in {"Cf", "Co", "Cs", "Cn"}
                or (category == "Cc" and character != "\t")
                or odd_letter
            ):
                found.append(f"line {number}: U+{ord(character):04X}")
    return found


def script_header(text: str) -> list[str]:
    """A script says which keys it takes, what it answers, and why it must be one step; 40 lines of code at most."""
    header, code = _split_lua(text)
    wanted = {"KEYS": "KEYS", "ARGV": "ARGV", "returns": "returns", "Why a script": "Why a script"}
    found = [f"the header lacks {name!r}" for name, mark in wanted.items() if mark not in header]
    return found + (
        [f"{code} lines of code; {LONGEST_SCRIPT} at most"] if code > LONGEST_SCRIPT else []
    )


def shared_script_header(text: str) -> list[str]:
    """Functions that scripts share say what they are for."""
    return [] if _split_lua(text)[0].strip("- \n") else ["no header"]


def _split_lua(text: str) -> tuple[str, int]:
    lines = text.splitlines()
    first_code = next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))
    code = [
        line for line in lines[first_code:] if line.strip() and not line.strip().startswith("--")
    ]
    return "\n".join(lines[:first_code]), len(code)


def standard_library_only(
    text: str, allowed: frozenset[str], standard: frozenset[str]
) -> list[str]:
    """What starts before anything else, or by path, imports the standard library and `allowed`."""
    found = []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found += [
            f"line {node.lineno}: imports {name}"
            for name in names
            if name not in allowed and name.split(".")[0] not in standard
        ]
    return found


def sentence_names(text: str) -> list[str]:
    """A test's name is a sentence about behaviour: three words at least."""
    return [
        f"line {function.lineno}: {function.name}"
        for function in _functions(text)
        if function.name.startswith("test_") and len(function.name.split("_")) < 4
    ]


def links(text: str) -> list[str]:
    """Return the relative targets of a Markdown page's links, without their anchors."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [
        t.partition("#")[0]
        for t in targets
        if "://" not in t and not t.startswith(("#", "mailto:"))
    ]
