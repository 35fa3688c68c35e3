from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from qik_core import client, settings
from qik_core.errors import DefinitionError
from qik_core.settings import Settings
from qik_core.testing import MisusedMode, assert_enqueued, drain, fake, inline, real
from tests.qik_core.testing.jobs_of_apps import Mail, Tree, done

MODES = [fake, inline, real]


@pytest.mark.parametrize("inner", MODES)
@pytest.mark.parametrize("outer", MODES)
def test_a_mode_inside_another_is_an_error_that_names_both(
    outer: Callable[[], Any], inner: Callable[[], Any]
) -> None:
    with (
        outer(),
        pytest.raises(MisusedMode, match=rf"{inner.__name__}\(\) inside {outer.__name__}\(\)"),
    ):
        inner().__enter__()


def test_a_mode_that_could_not_begin_leaves_the_other_one_as_it_was() -> None:
    with fake() as jobs:
        with pytest.raises(MisusedMode):
            real().__enter__()

        Mail.perform_async("a@example.org")
        assert len(jobs) == 1


def test_a_mode_is_that_of_every_thread() -> None:
    raised: list[BaseException] = []

    def other() -> None:
        try:
            inline().__enter__()
        except MisusedMode as error:
            raised.append(error)

    with fake():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    assert "inline() inside fake()" in str(raised[0])


def test_after_a_mode_pushes_go_to_redis_again_with_the_client_of_before() -> None:
    settings.use(Settings(redis="unix:///nowhere.sock"))
    before = client.current()

    with fake():
        assert client.current() is not before
    with pytest.raises(ValueError, match="by the test"), inline():
        raise ValueError("by the test")

    assert client.current() is before
    before.store.close()


def test_settings_that_change_inside_a_mode_do_not_end_it() -> None:
    with fake() as jobs:
        Mail.perform_async("a@example.org")
        settings.configure(redis="redis://elsewhere:6379/0")
        Mail.perform_async("b@example.org")

        assert len(jobs) == 2


def test_draining_without_a_mode_says_how_to_get_one() -> None:
    with pytest.raises(MisusedMode, match=r"no testing mode is on.*qik_fake"):
        drain()
    with pytest.raises(MisusedMode, match="no testing mode is on"):
        assert_enqueued(Mail)


def test_a_mode_that_has_ended_performs_no_more() -> None:
    with fake() as jobs:
        Mail.perform_async("a@example.org")

    assert len(jobs.jobs) == 1
    with pytest.raises(MisusedMode, match=r"drain: this fake\(\) has ended"):
        jobs.drain()
    with pytest.raises(MisusedMode, match=r"perform_one: this fake\(\) has ended"):
        jobs.perform_one()


def test_a_mode_without_a_with_statement_has_not_begun() -> None:
    with pytest.raises(MisusedMode, match="has not begun: use it in a with statement"):
        fake().drain()


@pytest.mark.parametrize("mode", MODES)
def test_drain_drains_whatever_mode_is_on(mode: Callable[[], Any]) -> None:
    with mode():
        Tree.perform_async(1)
        drain()

    assert sorted(done) == [0, 0, 1]


def test_what_is_no_job_is_refused_by_every_lookup() -> None:
    with fake() as jobs, pytest.raises(DefinitionError, match="a int is no job"):
        jobs.jobs_of(7)


def test_a_mode_is_used_once() -> None:
    mode = fake()
    with mode:
        pass

    with pytest.raises(MisusedMode, match=r"this fake\(\) was used already: make another one"):
        mode.__enter__()


def test_a_server_that_could_not_be_used_ends_and_leaves_no_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mode = real()

    def fails(_: object) -> Any:
        raise LookupError("by the test")

    monkeypatch.setattr(mode, "_open", fails)
    with pytest.raises(LookupError, match="by the test"):
        mode.__enter__()

    assert not mode._server.running
    with fake() as jobs:
        assert jobs.jobs == []
