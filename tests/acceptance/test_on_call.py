"""docs/how-to/on-call.md, typed: a fault is planted, the commands of its section are typed, and it is cured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text

from qik_core.embedded import Kind
from tests import servers
from tests.acceptance.oncall import FAULTS, Shop
from tests.test_tutorial import Block, blocks, fits
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "on-call.md"
MOST: Final = 2
"""Commands to the cause, and commands to the cure."""
FREED: Final = 300
"""Rows that are waited for where a new release frees them ten a second, since nobody can free them at once."""
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS: Final = dict(_SECTION.findall(PAGE.read_text(encoding="utf-8")))


def parts(section: str, mode: str) -> Iterator[list[Block]]:
    """Yield the blocks that are typed for the cause, then those for the cure."""
    cause, cure = section.split("**Cure.**")
    for part in (cause, cure):
        yield [block for block in blocks(part) if not block.marks or mode in block.marks]


def steps(typed: Sequence[Block]) -> list[tuple[str, str]]:
    return [step for block in typed for step in block.steps()]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop, for all situations of one run."""
    with servers.redis_server(Kind.VALKEY) as server:
        shop = Shop(tmp_path_factory.mktemp("shop"), server)
        try:
            shop.open()
            yield shop
        finally:
            shop.close()


def mended(shop: Shop) -> None:
    """The other release is deployed."""
    (shop.folder / "bad-release").unlink()
    shop.deploy("2026-01-01.3")


FIXES: dict[str, Callable[[Shop], None]] = {"Thousands of dead jobs": mended}
"""What is done between cause and cure, not at a terminal."""


def mails_leave(shop: Shop) -> None:
    eventually(lambda: shop.count("SELECT count(*) FROM mail WHERE NOT sent") == 0, 30)


def passes_leave_alone(shop: Shop, reconciler: str, rows: int) -> None:
    """Wait until a pass that began from now on has left all these rows in SQL."""
    newest = shop.count("SELECT max(id) FROM reconciler_pass")
    left = (
        "SELECT count(*) FROM reconciler_pass WHERE outcome = 'gated' AND codes LIKE"
        f" '%\"refused\": {rows}%' AND reconciler = '{reconciler}' AND id > {newest}"
    )
    try:
        eventually(lambda: shop.count(left), 30, f"a pass of {reconciler} that tells nothing")
    except AssertionError as error:
        columns = "id, reconciler, outcome, reason, codes"
        last = shop.rows(text(f"SELECT {columns} FROM reconciler_pass ORDER BY id DESC LIMIT 12"))
        raise AssertionError(f"{error}\nthe last of {newest} and later: {last}") from None


def nobody_is_charged(shop: Shop) -> None:
    shop.insert("invoice", 3, status="open", charges=-1)
    passes_leave_alone(shop, "OpenInvoices", 3)
    assert shop.count("SELECT count(*) FROM invoice WHERE charges = -1") == 3
    shop.run(text("DELETE FROM invoice WHERE charges = -1"))
    assert shop.raw.llen("queue:billing") == 0
    assert shop.count("SELECT min(charges) FROM invoice") >= 3
    assert shop.count("SELECT count(*) FROM invoice WHERE status = 'open'") == 5


def there_is_memory(shop: Shop) -> None:
    told = shop.raw.info("memory")
    assert int(told["used_memory"]) < 0.9 * int(told["maxmemory"])
    passes_leave_alone(shop, "OpenImports", 3000)
    assert shop.raw.llen("queue:imports") == 0
    assert shop.count("SELECT count(*) FROM import WHERE NOT done") == 3000


def plans_are_renewed(shop: Shop) -> None:
    wanted = min(shop.plans, FREED) if shop.hard else shop.plans
    done = "SELECT count(*) FROM plan WHERE renewed"
    eventually(lambda: shop.count(done) >= wanted, 90, f"{wanted} plans are renewed", every=0.3)
    assert shop.raw.zcard("dead") == 0


def every_row_is_told(shop: Shop) -> None:
    pending = shop.count("SELECT count(*) FROM import WHERE NOT done")
    eventually(lambda: shop.raw.llen("queue:imports") == pending, 30)


CURED: dict[str, Callable[[Shop], None]] = {
    "Mails stopped": mails_leave,
    "Customers are charged twice": nobody_is_charged,
    "Redis is 97 % full": there_is_memory,
    "Thousands of dead jobs": plans_are_renewed,
    "Redis came back empty": every_row_is_told,
}


def play(shop: Shop, situation: str, *, hard: bool) -> None:
    """Plant a fault, type what the page says, and hold that it is cured."""
    shop.calm()
    FAULTS[situation](shop)
    shop.hard = hard
    cause, cure = parts(SECTIONS[situation], "without-app" if hard else "with-app")
    type_all(shop, cause)
    if situation in FIXES:
        FIXES[situation](shop)
    type_all(shop, cure)
    CURED[situation](shop)


def type_all(shop: Shop, typed: Sequence[Block]) -> None:
    for command, shown in steps(typed):
        printed = shop.type(command)
        assert fits(shown, printed, among=True), (
            f"$ {command}\n{printed}\nand the page has\n{shown}"
        )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("situation", FAULTS)
def test_what_the_page_says_finds_the_cause_and_cures_it(opened: Shop, situation: str) -> None:
    opened.plans = 100
    play(opened, situation, hard=False)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("situation", FAULTS)
def test_it_does_so_while_the_application_cannot_be_imported(opened: Shop, situation: str) -> None:
    opened.plans = 4000
    play(opened, situation, hard=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_four_thousand_dead_jobs_are_cured_as_a_hundred_are(opened: Shop) -> None:
    opened.plans = 4000
    play(opened, "Thousands of dead jobs", hard=False)


def test_every_situation_of_the_page_is_planted_and_takes_few_commands() -> None:
    assert list(SECTIONS) == list(FAULTS)
    for section in SECTIONS.values():
        for mode in ("with-app", "without-app"):
            cause, cure = map(steps, parts(section, mode))
            assert 1 <= len(cause) <= MOST
            assert len(cure) <= MOST
