"""Which faults a drill is asked for."""

from __future__ import annotations

import pytest

from reconciler.drill.errors import UnknownFault
from reconciler.drill.kinds import Kind, chosen


def test_all_faults_are_done_unless_some_are_named() -> None:
    assert chosen(None) == tuple(Kind)
    assert chosen("freeze, child,freeze") == (Kind.FREEZE, Kind.CHILD)


def test_a_fault_that_there_is_not_is_refused_with_the_one_that_may_be_meant() -> None:
    with pytest.raises(UnknownFault, match=r"there is no fault 'freese': did you mean freeze\?"):
        chosen("queued,freese")
