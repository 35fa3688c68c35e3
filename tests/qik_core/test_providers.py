from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qik_core import settings
from qik_core.errors import SettingsError
from qik_core.providers import SwitchSettings
from qik_core.settings import Settings, configure, load
from tests.qik_core.test_settings import problems

SECRET = "default:production.0123456789"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    settings.use(None)
    yield
    settings.use(None)


def test_a_file_and_the_environment_name_providers_each_value_with_its_origin(
    tmp_path: Path,
) -> None:
    (tmp_path / "qik.toml").write_text('[switches]\nfile = "off.toml"\nunleash_refresh = 2\n')

    loaded = load(
        environ={"UNLEASH_URL": "https://flags.example.com/api", "UNLEASH_API_TOKEN": SECRET}
    )

    assert loaded.switches == SwitchSettings(
        file="off.toml",
        unleash_url="https://flags.example.com/api",
        unleash_token=SECRET,
        unleash_refresh=2.0,
    )
    assert loaded.origin("switches.file").endswith("qik.toml")
    assert loaded.origin("switches.unleash_url") == "environment UNLEASH_URL"
    assert loaded.origin("switches.cache") == "default"


def test_every_setting_of_switches_has_a_variable() -> None:
    loaded = load(
        environ={
            "QIK_SWITCHES_FILE": "off.json",
            "QIK_SWITCHES_UNLEASH_APP": "shop",
            "QIK_SWITCHES_UNLEASH_REFRESH": "1.5",
            "QIK_SWITCHES_CACHE": "/var/cache/shop",
        }
    )

    assert loaded.switches == SwitchSettings(
        file="off.json", unleash_app="shop", unleash_refresh=1.5, cache="/var/cache/shop"
    )


def test_switches_travel_to_a_child_with_their_token_and_print_without_it() -> None:
    loaded = load(
        environ={"UNLEASH_URL": "http://me:pw@flags/api?token=abc", "UNLEASH_API_TOKEN": SECRET}
    )

    assert Settings.from_json(loaded.to_json()).switches == loaded.switches
    for shown in (repr(loaded), repr(loaded.switches), str(loaded.masked())):
        assert SECRET not in shown
        assert "pw@" not in shown
        assert "abc" not in shown


def test_code_changes_one_of_them_and_leaves_the_others() -> None:
    settings.use(load(environ={"UNLEASH_URL": "http://flags/api"}))

    configure(switches={"file": "off.toml"})

    made = settings.current()
    assert (made.switches.file, made.switches.unleash_url) == ("off.toml", "http://flags/api")
    assert made.origin("switches.file") == "configure()"
    assert configure(switches=SwitchSettings(file="other.toml")).switches.file == "other.toml"


def test_what_nobody_knows_matters_only_where_a_provider_is_named() -> None:
    assert not Settings().switches.configured
    assert SwitchSettings(file="x").configured
    assert SwitchSettings(unleash_url="http://x").configured


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"UNLEASH_URL": "ftp://x"}, "switches.unleash_url (environment UNLEASH_URL): the scheme"),
        ({"UNLEASH_URL": "http:///api"}, "the host is missing"),
        ({"UNLEASH_URL": "http://[x"}, "not a URL"),
        ({"QIK_SWITCHES_UNLEASH_REFRESH": "soon"}, "use a number of seconds"),
        ({"QIK_SWITCHES_UNLEASH_REFRESH": "0"}, "unleash_refresh (environment"),
        ({"QIK_SWITCHES_FIEL": "x"}, "did you mean 'QIK_SWITCHES_FILE'"),
        ({"QIK_SWITCHES": "x"}, "did you mean 'QIK_SWITCHES_FILE'"),
    ],
)
def test_a_variable_that_cannot_work_is_a_problem(environ: dict[str, str], said: str) -> None:
    assert said in problems(environ)[0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            {"fiel": "x"},
            "switches.fiel (configure()): there is no such setting; did you mean 'file'?",
        ),
        ("off.toml", "use a table"),
        ({"file": 7}, "use a text"),
        ({"file": " "}, "it is empty"),
    ],
)
def test_a_value_of_code_that_cannot_work_is_a_problem(value: Any, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(switches=value)

    assert said in str(caught.value)
