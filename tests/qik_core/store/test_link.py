from __future__ import annotations

import pytest

from qik_core.errors import SettingsError, StoreUnavailable
from qik_core.store.link import Link


@pytest.mark.parametrize(
    "url",
    ["redis://user:hunter2@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=hunter2"],
    ids=["userinfo", "parameter"],
)
def test_no_error_of_a_connection_shows_its_password(url: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Link(url).call("PING")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


def test_a_url_that_is_none_is_named_without_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        Link("http://:hunter2@127.0.0.1").call("PING")
    assert "hunter2" not in str(caught.value)
