"""What the children of `dormouse up` are given, and in which order they come and go."""

from pathlib import Path

import pytest

from orchestrator.settings import Settings, load
from orchestrator.supervisor.processes import environment, redis_command, specs

SETTINGS = Settings(data=Path("/data"), port=9000, samples=False, admin_token="hf_secret_of_the_admin")


def test_children_read_the_same_settings():
    given = environment(SETTINGS, {"DORMOUSE_PORT": "1", "PATH": "/bin"})
    assert given["PATH"] == "/bin"
    assert load(given) == Settings(data=Path("/data"), port=9000, samples=False, log_json=True)


def test_credentials_of_the_caller_stay_with_the_caller():
    private = {"DORMOUSE_ADMIN_TOKEN": "x", "DORMOUSE_TOKEN": "x", "HF_TOKEN": "x", "GIT_DIR": "x", "PYTHONPATH": "x"}
    given = environment(SETTINGS, private)
    assert not set(private) & set(given)
    assert "hf_secret_of_the_admin" not in str(given)


def test_everyone_starts_after_those_it_needs_and_stops_before_them():
    by_name = {spec.name: spec for spec in specs(SETTINGS, {})}
    seen: set[str] = set()
    for spec in by_name.values():
        assert set(spec.after) <= seen, f"{spec.name} is listed before what it needs"
        assert all(spec.stop_stage <= by_name[name].stop_stage for name in spec.after)
        seen.add(spec.name)
    assert by_name["envoy"].stop_stage == 0
    assert max(by_name.values(), key=lambda spec: spec.stop_stage).name == "redis"


def test_all_stops_fit_into_their_limit():
    stages: dict[int, float] = {}
    for spec in specs(SETTINGS, {}):
        stages[spec.stop_stage] = max(stages.get(spec.stop_stage, 0), spec.stop_grace_s)
    assert sum(stages.values()) <= 12


def test_only_the_runner_may_leave_survivors():
    assert [spec.name for spec in specs(SETTINGS, {}) if spec.survivors] == ["runner"]


@pytest.mark.parametrize(("option", "value"), [("--port", "0"), ("--unixsocketperm", "700"), ("--appendonly", "no")])
def test_redis_is_private_and_keeps_nothing(option, value):
    command = redis_command()
    assert command[command.index(option) + 1] == value
