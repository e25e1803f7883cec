"""Decisions of the runner that need no machine: variables, reasons, isolation."""

from pathlib import Path

import pytest

from builder.sandbox.probe import Probe
from orchestrator.errors import Invalid
from orchestrator.runner import ending
from orchestrator.runner.environment import app_command, app_environment
from orchestrator.runner.isolation import Findings, describe
from orchestrator.runner.record import BoxRecord, Status, checked_id, load, read_status, save

RECORD = BoxRecord(replica_id="r", space_id="s", space="o/n", name="abc", started_at=5.0, pid=7, ready_at=6.0)


def test_no_variable_of_an_author_undoes_the_box() -> None:
    given = {
        "HOME": "/x", "PATH": "/x", "GRADIO_SERVER_PORT": "1", "GRADIO_ROOT_PATH": "/x", "PYTHONPATH": "/mine",
        "NO_PROXY": "*", "DORMOUSE_LISTEN_FD": "1", "A=B": "x", "GRADIO_ANALYTICS_ENABLED": "True", "TOKEN": "t",
    }  # fmt: skip
    made = app_environment(given, port=7860, egress="proxy")
    assert made["HOME"] == "/home/user"
    assert made["GRADIO_SERVER_PORT"] == made["STREAMLIT_SERVER_PORT"] == "7860"
    assert made["PYTHONPATH"] == "/opt/dormouse/boot:/mine"
    assert made["NO_PROXY"] == "localhost,127.0.0.1,::1"
    assert made["GRADIO_ANALYTICS_ENABLED"] == "True"
    assert made["TOKEN"] == "t"
    assert not {"GRADIO_ROOT_PATH", "DORMOUSE_LISTEN_FD", "A=B"} & made.keys()


def test_the_proxy_is_named_only_where_there_is_one() -> None:
    assert app_environment({}, port=1, egress="proxy")["https_proxy"] == "http://127.0.0.1:3128"
    for egress in ("none", "host"):
        assert not any("proxy" in name.lower() for name in app_environment({}, port=1, egress=egress))


def test_commands_are_filled_in() -> None:
    command = ["{python}", "-m", "uvicorn", "--port", "7860", "x7860"]
    assert app_command(command, python="/p", port=7860, own_port=7860)[0] == "/p"
    assert app_command(command, python="/p", port=7860, own_port=9)[-2:] == ["9", "x7860"]


@pytest.mark.parametrize("text", ["", "..", "../x", "a/b", "a\0", ".hidden", "x" * 121, "a b"])
def test_ids_are_file_names(text: str) -> None:
    with pytest.raises(Invalid):
        checked_id(text, "replica")


def test_records_survive(tmp_path: Path) -> None:
    save(tmp_path, RECORD)
    assert load(tmp_path) == RECORD
    for broken in ("", "[]", "{", '{"replica_id": 1}', "null"):
        (tmp_path / "box.json").write_text(broken)
        assert load(tmp_path) is None


def test_words_of_pid_1_are_a_strangers(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(b"R uds 12.5\nX nonsense\nX 99999\n\xff\xfe\nX -9\nR tcp 1\n" + b"F x" * 1000)
    status = read_status(tmp_path)
    assert (status.listens, status.exit_code) == ("uds", -9)
    assert len(status.failure) <= 300
    assert read_status(tmp_path / "none") == Status()


@pytest.mark.parametrize(
    ("status", "out_of_memory", "verdict", "expected"),
    [
        ("X 3\n", False, None, ("exited", 3)),
        ("X -15\n", False, None, ("exited", 143)),
        ("X -9\n", True, None, ("memory-limit", 137)),
        ("", True, None, ("memory-limit", 137)),
        ("X 1\n", True, None, ("memory-limit", 1)),
        ("X 0\n", True, None, ("exited", 0)),
        ("", False, None, ("exited", 137)),
        ("F x: No such file\n", False, None, ("could-not-start", 127)),
        ("X -15\n", False, ("stopped", "Stopped."), ("stopped", 143)),
        ("", False, ("start-timeout", "Late."), ("start-timeout", None)),
    ],
)
def test_why_a_replica_ended(
    tmp_path: Path, status: str, out_of_memory: bool, verdict: tuple[str, str] | None, expected: tuple[str, int | None]
) -> None:
    (tmp_path / "status").write_text(status)
    end = ending.judge(RECORD, tmp_path, verdict=verdict, out_of_memory=out_of_memory)
    assert (end.reason, end.exit_code) == expected
    assert end.detail.endswith(".")


def test_a_box_that_never_was_tells_what_bubblewrap_said(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_text("bwrap: no\nspace")
    record = BoxRecord(replica_id="r", space_id="s", space="o/n", name="abc")
    end = ending.judge(record, tmp_path, verdict=None, out_of_memory=False)
    assert (end.reason, "bwrap: no space" in end.detail) == ("could-not-start", True)


def found(**changes: object) -> Findings:
    values: dict[str, object] = {
        "sandbox": "auto", "egress": "proxy", "root": True, "view_problem": "", "groups_version": 1,
        "groups_problem": "", "probe": Probe(works=True, overlay=True, system_calls=True),
    }  # fmt: skip
    return Findings(**{**values, **changes})  # type: ignore[arg-type]


def test_isolation_is_full_only_with_everything() -> None:
    assert describe(found()).level == "full"
    assert set(describe(found()).features.values()) == {"on"}
    assert describe(found(egress="host")).level == "reduced"
    assert describe(found(probe=Probe(works=True, overlay=True, system_calls=False))).level == "reduced"
    assert describe(found(sandbox="none")).level == "none"


def test_isolation_says_what_is_missing() -> None:
    broken = describe(found(probe=Probe(works=False, problem="It fails.")))
    assert broken.level == "none"
    assert "It fails." in broken.features["sandbox"]
    assert "DORMOUSE_SANDBOX=none" in broken.features["sandbox"]
    user = describe(found(root=False, groups_version=0, groups_problem="no right"))
    assert user.level == "reduced"
    assert user.features["memory"].startswith("reduced: by a watchdog")
    assert "memfd" in user.features["memory"]
    assert user.features["user"].startswith("shared")
    assert "read-only" in describe(found(probe=Probe(works=True, system_calls=True))).features["working_folder"]
