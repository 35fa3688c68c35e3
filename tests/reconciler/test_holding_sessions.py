from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from qik_core.errors import QikError
from reconciler.engines import Engines
from reconciler.recheck import Recheck
from tests.reconciler.bills import (
    CLAIM,
    GUARDS,
    SERVERS,
    Bill,
    bills,
    home,
    is_free,
    recheck,
)

__all__ = ["home", "recheck"]


# --- the session of a row lock ------------------------------------------------------------------


@pytest.fixture
def locking(home: Engine) -> None:
    bills(GUARDS["row_lock"])


@SERVERS
@pytest.mark.usefixtures("locking")
def test_what_a_run_does_in_the_session_of_its_lock_is_committed_when_it_ends(
    home: Engine, recheck: Recheck
) -> None:
    with recheck.guarded("Charge", (7,)):
        for _ in range(2):
            with recheck.session("Charge", (7,)) as session:
                session.get_one(Bill, 7).other += 1
        assert recheck.row("Charge", (7,)) == (7,)
        with Session(home) as outside:
            assert outside.get_one(Bill, 7).other == 0

    with Session(home) as outside:
        assert outside.get_one(Bill, 7).other == 2


@SERVERS
@pytest.mark.usefixtures("locking")
def test_what_a_run_does_in_the_session_of_its_lock_is_rolled_back_when_it_raises(
    home: Engine, recheck: Recheck
) -> None:
    with pytest.raises(ZeroDivisionError), recheck.guarded("Charge", (7,)):
        _change_and_fail(recheck)

    with Session(home) as outside:
        assert outside.get_one(Bill, 7).other == 0


def _change_and_fail(recheck: Recheck) -> None:
    with recheck.session("Charge", (7,)) as session:
        session.get_one(Bill, 7).other = 5
    raise ZeroDivisionError


@SERVERS
@pytest.mark.usefixtures("locking")
def test_a_block_that_raises_is_undone_and_the_lock_stays(home: Engine, recheck: Recheck) -> None:
    with recheck.guarded("Charge", (7,)):
        with pytest.raises(ZeroDivisionError), recheck.session("Charge", (7,)) as session:
            _fail(session)
        assert not is_free(recheck, 7)
        with recheck.session("Charge", (7,)) as session:
            assert session.get_one(Bill, 7).other == 0


@SERVERS
@pytest.mark.usefixtures("locking")
def test_a_commit_that_would_let_go_of_the_row_is_refused(recheck: Recheck) -> None:
    with recheck.guarded("Charge", (7,)):
        with (
            pytest.raises(QikError, match="would let go of the row"),
            recheck.session("Charge", (7,)) as session,
        ):
            session.commit()
        assert not is_free(recheck, 7)


def test_sessions_are_made_by_the_makers_of_the_application(home: Engine) -> None:
    class Mine(Session):
        """The application's own."""

    recheck = Recheck(lambda: Engines({"default": sessionmaker(home, class_=Mine)}))
    bills(CLAIM)

    with recheck.session("Charge", (7,)) as session:
        assert isinstance(session, Mine)
        session.get_one(Bill, 7).other = 3
    with Session(home) as outside:
        assert outside.get_one(Bill, 7).other == 3


def test_what_a_block_did_is_rolled_back_where_it_raises(home: Engine, recheck: Recheck) -> None:
    bills(CLAIM)

    with pytest.raises(ZeroDivisionError), recheck.session("Charge", (7,)) as session:
        _fail(session)

    with Session(home) as outside:
        assert outside.get_one(Bill, 7).other == 0


def _fail(session: Session) -> None:
    """Change the bill, send it, and raise as a job may."""
    session.get_one(Bill, 7).other = 5
    session.flush()
    raise ZeroDivisionError
