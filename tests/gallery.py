"""A dashboard with something on every page, to be looked at: by a browser in tests, by people in pictures.

`python -m tests.gallery FOLDER` writes a picture of every page and answer there: light, dark, and on a phone.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import redis
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.routing import Mount

from qik_core import Job, registry
from qik_core.api import mark_deploy
from qik_core.embedded import Embedded, NoServer
from qik_core.passes import Passes
from qik_core.store import Store, minutes
from qik_core.store.exchange import Kind
from qik_core.store.minutes import Ran
from qik_core.web import Secrets, app
from reconciler import Reconciler, audit, derive
from reconciler import registry as reconcilers
from reconciler.audit import Action
from reconciler.engines import Engines
from reconciler.lease import Leases
from reconciler.operators import Operator, quarantine
from reconciler.passes import Pass, Tools
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.settling import By
from reconciler.web import tabs
from tests.answers import answers
from tests.chromium import Tab, chromium
from tests.qik_core.api.places import foreign
from tests.qik_core.store.rig import Rig, other
from tests.qik_core.web.site import served
from tests.reconciler import tables
from tests.reconciler.shop import Item, fill
from tests.waiting import eventually

ERROR: Final = (
    "card_declined: the bank of customer 4711 does not answer; asked for 30 s, three times"
)
TRACE: Final = [
    f'File "/srv/shop/{name}.py", line {40 + line}, in {name}'
    for line, name in enumerate(("connect", "charge", "retry", "perform"))
]
WHOLE: Final = (
    "[...document.querySelectorAll('#pulse')].every(each => each.innerText)"
    " && [...document.querySelectorAll('.chart')].every(each => each.querySelector('canvas'))"
)
"""Of a page: its totals have come, its charts are drawn."""
AWAY: Final = "redis://127.0.0.1:1/0"
PROCESSES: Final = ("worker-1.eu.example.com:4210:3f2a9c", "worker-2.eu.example.com:4188:b07e11")


class Look(NamedTuple):
    """How a page is looked at."""

    scheme: str
    width: int
    height: int


LOOKS: Final = {
    "light": Look("light", 1280, 800),
    "dark": Look("dark", 1280, 800),
    "phone": Look("light", 390, 844),
}


class Page(NamedTuple):
    """A page to be looked at, and what its pictures are called."""

    name: str
    path: str


_FURTHER: Final = (
    Page("filtered", "/jobs?where=class:Sync*"),
    Page("held-back", "/quarantine?class=SyncInvoice"),
    Page("login", "/locked/login"),
    Page("missing", "/nowhere"),
)


def define() -> None:
    """Define what an application would: call it where definitions end."""

    class SyncInvoice(Job, queue="billing", unique_for=timedelta(hours=1)):
        def perform(self, invoice_id: int) -> None: ...

    class SendReceipt(Job, queue="mail"):
        def perform(self, order_id: int) -> None: ...

    class OpenInvoices(Reconciler, every=timedelta(minutes=1)):
        pending = derive(SyncInvoice, select(Item.id).where(Item.state == "pending"))


def fill_redis(url: str) -> None:
    """Put jobs into every place: waiting, due later, failed, dead, running, and bytes that are none."""
    with redis.Redis.from_url(url) as raw:
        rig = Rig(url, raw)
        _engine_made(rig)
        _ran(rig)
        _written(raw)
        _set_aside(raw)
        _counted(raw)
        _processes(raw)
        rig.link.close()
        rig.store.close()


def _engine_made(rig: Rig) -> None:
    """Let the engine itself push and settle some."""
    rig.edge(*range(1, 41), queue="default")
    rig.edge(*range(41, 44), queue="default", delays=[60.0, 3_600.0, 86_400.0])
    worker = rig.worker(PROCESSES[0])
    failed = worker.fetch(20)
    ends = [
        other(job, Kind.DEAD if n % 3 == 0 else Kind.RETRY, 90.0 * (n + 1))
        for n, job in enumerate(failed)
    ]
    worker.exchange(*ends, want=0)


def _ran(rig: Rig) -> None:
    """Let two classes have run for an hour, with a deploy in it."""
    now = time.time()
    for back in range(60):
        slow = 3 + (back * 7) % 11
        rows = [
            Ran("SyncInvoice", 40 + slow, back % 3, 4_000 * slow, [0] * 4 + [9, 20, slow]),
            Ran("SendReceipt", 12, 0, 900, [3, 9]),
        ]
        minutes.add(rig.link.run, now - 60 * back, rows, eight=True)
    mark_deploy("v2.4.1", at=datetime.now(UTC) - timedelta(minutes=25), store=rig.store)


def _written(raw: redis.Redis) -> None:
    now = time.time()
    names = ("Shop::ChargeInvoice", "SyncInvoice", "SendReceipt", "Reports::MonthlyStatement")
    for number in range(24):
        fields = {
            "jid": f"{number:024x}",
            "class": names[number % 4],
            "args": [4_700 + number, {"mail": "a@example.com", "token": "t"}],
            "queue": ("billing", "mail")[number % 2],
            "created_at": now - 90_000 - 300 * number,
            "tags": ["eu", "v2"][: number % 3],
        }
        failure = {
            "error_class": "TimeoutError",
            "error_message": ERROR,
            "error_backtrace": TRACE,
            "failed_at": now - 86_400 - 200 * number,
            "retry_count": number % 7,
        }
        raw.lpush(f"queue:{fields['queue']}", foreign(**fields, enqueued_at=now - 60 * number))
        raw.zadd("schedule", {foreign(**fields): now + 600 * number})
        raw.zadd("retry", {foreign(**fields, **failure): now + 30 * number})
        raw.zadd("dead", {foreign(**fields, **failure): now - 3_000 * number})


def _set_aside(raw: redis.Redis) -> None:
    now = time.time()
    unknown = {"class": "Gone", "error_class": "UnknownJob", "error_message": "no job is Gone"}
    broken = {"class": "qik:malformed", "error_class": "Malformed", "error_message": "no JSON"}
    raw.zadd("retry", {foreign(jid="u1", **unknown): now})
    raw.zadd("dead", {foreign(jid="m1", **broken): now})
    raw.lpush("queue:mail", b"no job at all")


def _counted(raw: redis.Redis) -> None:
    raw.sadd("queues", "billing", "mail", "low")
    raw.sadd("paused", "low")
    raw.mset({"stat:processed": 128_402, "stat:failed": 311})
    for days in range(7):
        day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400 * days))
        raw.mset({f"stat:processed:{day}": 18_000 - 700 * days, f"stat:failed:{day}": 40 + days})


def _processes(raw: redis.Redis) -> None:
    now = time.time()
    for number, identity in enumerate(PROCESSES):
        info = {
            "hostname": identity.split(":")[0],
            "started_at": now - 7_200,
            "pid": 4_210,
            "tag": "shop",
            "concurrency": 10,
            "queues": ["billing", "default", "mail"],
            "labels": ["qik"],
            "identity": identity,
            "embedded": False,
        }
        state: dict[Any, Any] = {
            "info": json.dumps(info),
            "beat": now,
            "busy": 2,
            "rss": 182_000,
            "quiet": "true" if number else "false",
        }
        raw.sadd("processes", identity)
        raw.hset(identity, mapping=state)
        raw.zadd("qik:alive", {identity: now})
        for thread in range(2):
            job = foreign(
                jid=f"{number}{thread:023x}",
                **{"class": "SyncInvoice"},
                args=[thread],
                queue="billing",
            )
            work = {"queue": "billing", "run_at": now - 12, "payload": job.decode()}
            raw.hset(f"{identity}:work", f"thread-{thread}", json.dumps(work))


def fill_sql(engines: Engines, url: str) -> None:
    """Let a pass have run, Redis have been empty, somebody hold the lease, and something be switched off."""
    home, seam = engines.home(), Passes(Rig(url, None).store)
    tables.make(home)
    fill(home, range(1, 31))
    tools = Tools.of(seam, engines, PROCESSES[0])
    Pass(reconcilers.find("OpenInvoices"), tools, 1, lambda: None).run()
    emptied = "Redis is empty: it was started anew without its data"
    audit.record(home, Action.REDIS_LOST, "came_empty", PROCESSES[0], emptied, {"jobs": 3})
    leases = Leases(home, ["OpenInvoices"], 60.0, holder=PROCESSES[0])
    leases.register()
    leases.renew()
    operator = Operator("ada@example.com", "the bank refuses these two")
    for key in (7, 8):
        quarantine(engines, reconcilers.find("OpenInvoices"), (key,), operator)
    by = By("ada@example.com", "receipts go out twice since the last release")
    Switcher(home, seam).disable(Order(flag="disable_send_receipt", by=by, expires_in=7_200))


@contextmanager
def gallery(redis_url: str, database_url: str) -> Iterator[str]:
    """Serve a dashboard of these, filled, with the tabs of reconcilers; gives its address."""
    with registry.scope(empty=True), reconcilers.scope():
        define()
        engines = Engines({"default": database_url})
        fill_redis(redis_url)
        fill_sql(engines, redis_url)
        store = Rig(redis_url, None).store
        shown = app(store, secrets=Secrets(), tabs=tabs({"default": engines.home()}))
        locked = app(store, secrets=Secrets(password="correct horse"))  # noqa: S106  of nobody
        away = app(
            Store(AWAY), secrets=Secrets(), tabs=tabs({"default": "sqlite:////nowhere/at.db"})
        )
        mounts = [Mount("/locked", locked), Mount("/away", away), Mount("/", shown)]
        try:
            with served(Starlette(routes=mounts)) as url:
                yield url
        finally:
            store.close()
            engines.dispose()


def pages(url: str) -> list[Page]:
    """Return every page that GET shows, with parameters that mean something here."""
    document = httpx.get(f"{url}/api/openapi.json").json()
    job = httpx.get(f"{url}/api/dead", params={"where": "class:SyncInvoice"}).json()["rows"][0]
    values = {
        "queue": "billing",
        "jid": job["jid"],
        "reconciler": "OpenInvoices",
        "class": "SyncInvoice",
    }
    extra = {"/jobs/{jid}": f"?place=dead&mark={quote(job['mark'])}"}
    found = [
        Page(_name(path), path.format_map(values) + extra.get(path, ""))
        for path, methods in document["paths"].items()
        if "get" in methods
    ]
    return [*found, *_FURTHER]


def _name(path: str) -> str:
    return re.sub(r"\W+", "-", path.strip("/")) or "overview"


def look_at(tab: Tab, look: Look) -> None:
    """See pages like this from now on."""
    scheme = {"name": "prefers-color-scheme", "value": look.scheme}
    tab.send("Emulation.setEmulatedMedia", features=[scheme])
    tab.size(look.width, look.height)


def visit(tab: Tab, look: Look, url: str) -> None:
    """Open a page, wait until all of it is there, totals and charts, and unfold what is folded."""
    look_at(tab, look)
    tab.open(url)
    eventually(lambda: tab.run(WHOLE))
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true })")


def draw(tab: Tab, url: str, folder: Path, look: Look) -> list[Path]:
    """Write a picture of every page; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for page in pages(url):
        visit(tab, look, url + page.path)
        made.append(_picture(tab, look, folder / f"{page.name}.png"))
    return made


def draw_answers(tab: Tab, url: str, folder: Path) -> list[Path]:
    """Write pictures of what is answered to what people do, in a folder for each look; return them."""
    made = []
    for answer in answers(tab, url):
        for name, look in LOOKS.items():
            look_at(tab, look)
            made.append(_picture(tab, look, folder / name / f"answer-{answer.name}.png"))
    return made


def _picture(tab: Tab, look: Look, path: Path) -> Path:
    tab.size(look.width, int(tab.run("document.documentElement.scrollHeight")))
    tab.picture(path)
    return path


def _server() -> Embedded:
    try:
        return Embedded()
    except NoServer as error:
        sys.exit(f"gallery: {error} Here (1) or (2): the pictures need a server of their own.")


def main(arguments: Sequence[str]) -> None:
    """Draw into the folder that is named."""
    if shutil.which("chromium") is None:
        sys.exit(
            "gallery: chromium is not installed: apt-get install chromium, or PROVISION=1 make test"
        )
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qik-gallery-")))
        server = stack.enter_context(_server())
        url = stack.enter_context(gallery(server.url, f"sqlite:///{place / 'shop.db'}"))
        tab = stack.enter_context(chromium(place / "profile"))
        folder = Path(arguments[0])
        made = [draw(tab, url, folder / name, look) for name, look in LOOKS.items()]
        made.append(draw_answers(tab, url, folder))
    print(f"{sum(map(len, made))} pictures in {arguments[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
