"""Settings: what they say about addresses, and how wrong ones are refused."""

import pytest

from orchestrator.errors import Invalid
from orchestrator.settings import Settings, load


@pytest.mark.parametrize(
    ("bind", "host", "url"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:7878"),
        ("0.0.0.0", "127.0.0.1", "http://127.0.0.1:7878"),
        ("::", "::1", "http://[::1]:7878"),
        ("192.168.1.5", "192.168.1.5", "http://192.168.1.5:7878"),
    ],
)
def test_this_machine_reaches_the_listener_where_it_is(bind: str, host: str, url: str) -> None:
    settings = Settings(bind=bind)
    assert (settings.local_host, settings.local_url) == (host, url)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        load({"DORMOUSE_PORT": "x", "DORMOUSE_EGRESS": "maybe", "DORMOUSE_SAMPLES": "perhaps"})
    assert all(name in str(refused.value) for name in ("DORMOUSE_PORT", "DORMOUSE_EGRESS", "DORMOUSE_SAMPLES"))
