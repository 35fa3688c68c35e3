"""Without its extra the package imports, and whoever wants the dashboard is told what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest


def without(library: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python that lacks a library."""
    text = f"import sys; sys.modules[{library!r}] = None\n{program}"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("library", ["starlette", "jinja2"])
def test_the_package_imports_and_its_application_names_the_extra(library: str) -> None:
    done = without(library, "import qik_core.web as web; print(web.Access.READ); web.app")

    assert done.stdout == "read\n"
    assert done.stderr.splitlines()[-1].endswith(f"needs {library}: pip install 'qik-core[web]'")


@pytest.mark.parametrize("library", ["starlette", "jinja2", "uvicorn"])
def test_the_command_names_the_extra_and_ends_as_a_usage_error(library: str) -> None:
    done = without(library, "from qik_core.cli import main; main(['web'])")

    assert done.returncode == 2
    assert "pip install 'qik-core[web]'" in done.stderr
    assert "Traceback" not in done.stderr
