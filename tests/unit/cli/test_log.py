"""Logs are events, readable, and never hold a credential."""

import io
import json
import logging

import pytest
import structlog
from rich.console import Console as RichConsole

from orchestrator import log
from orchestrator.supervisor.console import Console, parse


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefgh12345678",
        "push to http://user:hunter22@host/x failed",
        "GET /?__sign=abcdef.ghi HTTP/1.1",
        "token hf_abcdefghijklmnopqrstu given",
    ],
)
def test_credentials_in_texts_are_masked(text):
    masked = log.mask(text)
    assert "***" in masked
    for secret in ("abcdefgh12345678", "hunter22", "abcdef.ghi", "abcdefghijklmnopqrstu"):
        assert secret not in masked


def test_values_are_masked_by_the_name_of_their_key():
    record = log.redact(
        None, "info", {"event": "x", "token": "t", "admin_password": "p", "tokens_max": 3, "space": "s"}
    )
    assert record == {"event": "x", "token": "***", "admin_password": "***", "tokens_max": 3, "space": "s"}


@pytest.fixture
def lines(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    log.configure("api", level="info")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.getLogger().handlers, logging.getLogger().level = handlers, level


def test_a_process_writes_one_json_object_per_event(lines):
    structlog.get_logger().info("thing_done", space="a/b", token="secret", text="two\nlines")
    structlog.get_logger().debug("too_small")
    (record,) = lines()
    assert record["event"] == "thing_done"
    assert (record["process"], record["level"], record["space"]) == ("api", "info", "a/b")
    assert record["token"] == "***"
    assert isinstance(record["t"], float)


def test_libraries_end_up_in_the_same_stream(lines):
    logging.getLogger("some.library").warning("it is %s", "late")
    logging.getLogger("httpx").info("GET http://x")
    (record,) = lines()
    assert (record["event"], record["library"], record["level"]) == ("it is late", "some.library", "warning")


def test_exceptions_come_with_their_traceback(lines):
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: broken" in lines()[0]["exception"]


def shown(*records: tuple[str, dict], **options: object) -> str:
    stream = io.StringIO()
    console = Console(rich=RichConsole(file=stream, highlight=False, soft_wrap=True), **options)
    for process, record in records:
        console.record(process, record)
    return stream.getvalue()


def test_a_record_is_one_readable_line():
    text = shown(
        ("api", {"event": "ready", "level": "info", "t": 0.0, "took_s": 1.25, "name": "two words", "none": ""})
    )
    assert text.count("\n") == 1
    assert text.strip().endswith('api        ready took_s=1.25 name="two words" none=""')


def test_records_below_the_level_are_left_out():
    assert shown(("api", {"event": "x", "level": "debug"})) == ""
    assert "x" in shown(("api", {"event": "x", "level": "debug"}), level="debug")


def test_what_a_visitor_sent_cannot_drive_the_terminal():
    text = shown(("api", {"event": "request", "path": "\x1b]0;owned\x07/\r[bold]x[/bold]"}))
    assert "\x1b" not in text
    assert "\r" not in text
    assert "[bold]x[/bold]" in text


@pytest.mark.parametrize("raw", [b"{", b'{"event": 3}', b"[1]", b"\xff\xfe", b"plain", b"{" * 100_000])
def test_any_line_of_a_child_becomes_a_record(raw):
    record = parse(raw)
    assert isinstance(record["event"], str)
    assert len(record["event"]) <= 16_384


def test_json_goes_through(capsys):
    Console(as_json=True).record("api", parse(b'{"event": "ready", "level": "info", "t": 1.0}'))
    assert json.loads(capsys.readouterr().err) == {"t": 1.0, "level": "info", "event": "ready", "process": "api"}
