"""Settings: what they say about addresses, and how wrong ones are refused."""

import pytest

from orchestrator.errors import Invalid
from orchestrator.settings import Settings, load, unknown


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


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("PORT", "abc", "write a whole number"),
        ("PORT", "1.5", "write a whole number"),
        ("HOLD_TIMEOUT_S", "soon", "write a number"),
        ("HOLD_TIMEOUT_S", "nan", "write a number"),
        ("SAMPLES", "perhaps", "write 1 or 0"),
        ("EGRESS", "maybe", "proxy, none, host"),
    ],
)
def test_a_wrong_value_is_answered_with_what_to_write(name: str, text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        load({f"DORMOUSE_{name}": text})


def test_variables_that_nothing_reads_are_named_with_what_was_meant() -> None:
    assert unknown({"DORMOUSE_PORTT": "1", "DORMOUSE_XYZZY": "1"}) == [
        "DORMOUSE_PORTT is no setting: perhaps DORMOUSE_PORT was meant.",
        "DORMOUSE_XYZZY is no setting and has no effect.",
    ]
    read = ("URL", "TOKEN", "RUN", "LOG_JSON", "TEST_POSTGRES", "DATA", "ADMIN_TOKEN")
    assert unknown({"HOME": "/", **{f"DORMOUSE_{name}": "x" for name in read}}) == []
