from __future__ import annotations

import subprocess
import sys

from qik_core import rows
from tests.qik_core.telling import Table


def test_the_seam_is_loaded_at_its_first_use_and_once() -> None:
    made: list[Table] = []

    def load() -> Table:
        made.append(Table())
        return made[-1]

    with rows.filled(None):
        assert rows.known() is None
        rows.fill(load)
        assert made == []
        assert rows.known() is rows.known() is made[0]
    assert len(made) == 1


def test_a_block_gives_back_what_filled_the_seam_before() -> None:
    with rows.filled(Table):
        before = rows.known()
        with rows.filled(None):
            assert rows.known() is None
        assert rows.known() is before


def test_the_seam_costs_an_application_without_reconcilers_no_import() -> None:
    code = "import sys, qik_core.rows; print('sqlalchemy' in sys.modules, 'redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
