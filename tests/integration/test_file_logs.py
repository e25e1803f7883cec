"""The port `Logs` over files, as builds and the runner write them."""

import json
import os
from pathlib import Path

from orchestrator.adapters.logs import FileLogs


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]  # type: ignore[attr-defined]


def test_repeated_reports_change_nothing(tmp_path: Path) -> None:
    logs = FileLogs(tmp_path)
    assert logs.append_build("b1", 0, [(1.0, "a"), (2.0, "b")]) == 2
    assert logs.append_build("b1", 0, [(1.0, "a"), (2.0, "b"), (3.0, "c\nd")]) == 3
    assert logs.append_build("b1", 3, [(4.0, "e")]) == 4
    assert logs.append_build("b1", 9, [(5.0, "a gap")]) == 4
    assert FileLogs(tmp_path).append_build("b1", 2, [(3.0, "c"), (4.0, "e"), (5.0, "f \ud800")]) == 5
    assert texts(logs.read_build("b1")) == ["a", "b", "c\nd", "e", "f ?"]


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    logs = FileLogs(tmp_path)
    logs.append_build("b1", 0, [(float(n), str(n)) for n in range(50)])
    assert texts(logs.read_build("b1", 10, 3)) == ["10", "11", "12"]
    assert texts(logs.read_build("b1", 13, 2)) == ["13", "14"]
    assert texts(logs.read_build("b1", 3, 2)) == ["3", "4"]
    assert logs.read_build("b1", 50) == []
    logs.append_build("b1", 50, [(50.0, "50")])
    assert texts(logs.read_build("b1", 50)) == ["50"]
    assert logs.read_build("unknown") == ()


def _write(path: Path, *lines: tuple[float, str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n".join(json.dumps({"t": at, "m": text}) for at, text in lines) + end)


def test_a_run_log_joins_replicas_and_survives_rotation(tmp_path: Path) -> None:
    logs, folder = FileLogs(tmp_path), tmp_path / "logs/runs/s1"
    _write(folder / "r2.ndjson", (20.0, "second"))
    _write(folder / "r1.ndjson", (10.0, "first"), (11.0, "first again"))
    lines, cursor = logs.read_run("s1", limit=2)
    assert texts(lines) == ["first", "first again"]
    lines, cursor = logs.read_run("s1", cursor)
    assert texts(lines) == ["second"]
    _write(folder / "r2.ndjson", (21.0, "half"), end="")
    assert logs.read_run("s1", cursor)[0] == []
    with (folder / "r2.ndjson").open("a") as file:
        file.write("\n")
    (folder / "r2.ndjson").rename(folder / "r2.ndjson.1")
    _write(folder / "r2.ndjson", (30.0, "after rotation"))
    lines, cursor = logs.read_run("s1", cursor)
    assert texts(lines) == ["half", "after rotation"]
    (folder / "r1.ndjson").unlink()
    (folder / "r2.ndjson.1").unlink()
    assert logs.read_run("s1", cursor)[0] == []
    assert texts(logs.read_run("s1")[0]) == ["after rotation"]
    assert texts(logs.read_run("s1", "junk")[0]) == ["after rotation"]


def test_tails_and_deletion(tmp_path: Path) -> None:
    logs, folder = FileLogs(tmp_path), tmp_path / "logs/runs/s1"
    _write(folder / "r1.ndjson", *[(float(n), f"old {n}") for n in range(10)])
    _write(folder / "r2.ndjson", (20.0, "new"))
    assert texts(logs.tail_run("s1", 3)) == ["old 8", "old 9", "new"]
    logs.append_build("b1", 0, [(1.0, "a")])
    logs.delete_space("s1", ["b1", "b2"])
    assert logs.tail_run("s1") == []
    assert logs.read_build("b1") == ()


def test_a_tail_since_a_start_shows_that_start_alone(tmp_path: Path) -> None:
    logs, folder = FileLogs(tmp_path), tmp_path / "logs/runs/s1"
    _write(folder / "r1.ndjson", (10.0, "an earlier life"), (31.0, "Stopped by Dormouse."))
    assert texts(logs.tail_run("s1", 9, since=20.0)) == ["Stopped by Dormouse."]
    assert texts(logs.tail_run("s1", 9, since=31.5)) == []
    _write(folder / "r2.ndjson.1", (22.0, "first"))
    _write(folder / "r2.ndjson", (30.0, "second"))
    assert texts(logs.tail_run("s1", 9, since=20.0)) == ["first", "second"]
    assert texts(logs.tail_run("s1", 9, since=25.0)) == ["second"]
    assert len(logs.tail_run("s1", 9)) == 4


def test_a_file_that_is_no_log_is_shown_as_text(tmp_path: Path) -> None:
    path = tmp_path / "logs/builds/b1.ndjson"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"t": 1, "m": "fine"}\n\xff\xfe junk\n[1]\n')
    assert texts(FileLogs(tmp_path).read_build("b1"))[0] == "fine"
    assert len(FileLogs(tmp_path).read_build("b1")) == 3


def test_only_the_newest_replicas_keep_their_logs(tmp_path: Path) -> None:
    logs, folder = FileLogs(tmp_path), tmp_path / "logs" / "runs" / "s1"
    for number in range(4):
        for name in (f"r{number}.ndjson", f"r{number}.ndjson.1"):
            _write(folder / name, (float(number), name))
            os.utime(folder / name, (number, number))
    logs.append_build("b1", 0, [(1.0, "a")])
    logs.prune("s1", keep=2, build_ids=["b1", "unknown"])
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"r2", "r3"}
    assert logs.read_build("b1") == ()
    logs.prune("never ran".replace(" ", "-"), keep=2, build_ids=[])
