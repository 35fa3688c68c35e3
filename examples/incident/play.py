"""One incident from its beginning to its end: `python play.py`. Everything is private, and ends with it.

The bank answers nothing any more. The person on call switches charging off, looks at what a flush would do, flushes,
lets the work come back once the bank is back, and reads what has happened.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, func, insert, select

from qik_core.api import Queue, RetrySet
from qik_core.embedded import Embedded

INVOICES = 200
SOME = 20
LETTERS = 5
PATIENCE = 60.0
HERE = Path(__file__).parent


class Stage:
    """The servers and processes of the play, and the terminal of the person on call."""

    def __init__(self, folder: Path, redis_url: str, patience: float = PATIENCE) -> None:
        self.folder = folder
        self.patience = patience
        ours = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(ours),
            "REDIS_URL": redis_url,
            "DATABASE_URL": f"sqlite:///{folder / 'incident.db'}",
            "QIK_APP": "app",
            "QIK_HEARTBEAT": "0.5",
            "QIK_LEASE": "3",
        }

    def say(self, text: str) -> None:
        """Tell the audience what happens."""
        print(f"\n# {text}", flush=True)

    def type(self, command: str, *codes: int) -> str:
        """Type a command, show what it prints, and go on if it ended as it should; returns what it printed."""
        print(f"\n$ {command}", flush=True)
        program, *words = shlex.split(command)
        module = {"reconciler": "reconciler.cli", "qik": "qik_core.cli"}[program]
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.patience,
            check=False,
        )
        print(done.stdout, end="", flush=True)
        if done.returncode not in (codes or (0,)):
            raise SystemExit(f"that ended with exit code {done.returncode}")
        return done.stdout

    @contextmanager
    def running(self, module: str, *words: str) -> Iterator[None]:
        """Run a process until the end of the block."""
        with (self.folder / f"{words[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(self.patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Not reached after an error: that is what is told then.
        if process.returncode == -signal.SIGKILL:
            raise SystemExit(f"waited in vain until `{module} {words[0]}` ended")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"waited in vain until {what}")
            time.sleep(0.1)


def main() -> None:
    """Play it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qik-incident-")))
        stage = Stage(folder, stack.enter_context(Embedded()).url)
        os.environ.update(stage.environment)  # before the application is imported: it reads them
        Play(stage, stack).play()


class Play:
    """The acts, in their order."""

    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        self.stage = stage
        self.stack = stack
        self.app: Any = import_module("app")
        self.engine: Engine = self.app.engine
        self.bank_is_down = stage.folder / self.app.BROKEN

    def play(self) -> None:
        """Play all of it."""
        self.begin()
        self.fail()
        self.disable()
        self.flush()
        self.come_back()
        self.look_back()

    def begin(self) -> None:
        """Invoices, a worker, reconcilers."""
        invoice = self.app.Invoice
        self.app.Base.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(insert(invoice), [{"status": "open"}] * INVOICES)
        self.stage.say(f"{INVOICES} invoices are to be charged. Workers and reconcilers run.")
        self.stage.type("reconciler upgrade")
        workers = ("work", "-p", "1", "-c", "5", "-q", "billing")
        self.stack.enter_context(self.stage.running("reconciler.cli", "run"))
        self.stack.enter_context(self.stage.running("qik_core.cli", *workers))
        self.stage.until(lambda: self.paid() > SOME, "some invoices are charged")

    def fail(self) -> None:
        """Every charge fails."""
        self.stage.say("Then the bank answers nothing any more: charges fail and wait for a retry.")
        self.bank_is_down.touch()
        self.app.SendNewsletter.perform_bulk([(f"customer-{each}",) for each in range(LETTERS)])
        self.stage.until(lambda: RetrySet().size > SOME, "charges fail")
        self.stage.type("qik status")

    def disable(self) -> None:
        """Stop it."""
        self.stage.say("Switch charging off: nothing of it is pushed from now on, nothing starts.")
        why = "--reason 'the bank does not answer'"
        self.stage.type(f"reconciler disable ChargeInvoice {why} --expires 2h")

    def flush(self) -> None:
        """Look first, then flush."""
        self.stage.say("What would a flush of those jobs lose? And one of all jobs?")
        self.stage.type("reconciler flush --class ChargeInvoice --dry-run")
        self.stage.type("reconciler flush --all --dry-run", 1)
        self.stage.say("Charges can go: SQL knows every open invoice. The newsletters stay.")
        why = "--reason 'the bank does not answer'"
        self.stage.type(f"reconciler flush --class ChargeInvoice {why} --yes")

    def come_back(self) -> None:
        """Let the work come back."""
        rebuild = "reconciler rebuild OpenInvoices --rate max --reason 'the bank is back' --yes"
        self.stage.say(
            "The bank is back. A rebuild obeys the switch: it says what it leaves alone."
        )
        self.bank_is_down.unlink()
        self.stage.type(rebuild, 0, 1, 3)
        self.stage.say("Switch it on again. A rebuild does not wait for the next pass.")
        self.stage.type("reconciler enable ChargeInvoice --reason 'the bank is back'")
        self.stage.type(rebuild)
        self.stage.until(lambda: self.paid() == INVOICES, "every invoice is charged")

    def look_back(self) -> None:
        """Read what has happened, and count."""
        self.stage.say("What has happened?")
        self.stage.type("reconciler timeline --since 1h")
        wrong = self.count(self.app.Invoice.charges != 1)
        said = f"{self.paid()} of {INVOICES} invoices are charged, {wrong} not exactly once"
        waiting = Queue("mail").size
        print(f"\n{said}; {waiting} of {LETTERS} newsletters wait still", flush=True)
        if wrong or waiting != LETTERS:
            raise SystemExit(1)

    def paid(self) -> int:
        """Return how many invoices are charged."""
        return self.count(self.app.Invoice.status == "paid")

    def count(self, which: ColumnElement[bool]) -> int:
        """Return how many invoices there are of which this is true."""
        asked = select(func.count()).select_from(self.app.Invoice).where(which)
        with self.engine.connect() as connection:
            return int(connection.execute(asked).scalar_one())


if __name__ == "__main__":
    main()
