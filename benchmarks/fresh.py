"""`make up` on a fresh clone to four working samples, with the time of each part."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row
from tests.support.product import free_port

LIMIT_S = 900.0
ROOT = Path(__file__).resolve().parents[1]
SAMPLES = 4


def run() -> list[Row]:
    with TemporaryDirectory() as temporary:
        clone, port = Path(temporary) / "clone", free_port()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = {
            **{k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")},
            "DORMOUSE_DATA": f"{temporary}/data",
            "DORMOUSE_PORT": str(port),
        }
        began = time.monotonic()
        process = subprocess.Popen(
            ["make", "up"], cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            return _follow(process, began)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


def _follow(process: "subprocess.Popen[str]", began: float) -> list[Row]:
    assert process.stdout is not None
    rows, running = [], set()
    for line in process.stdout:
        passed = time.monotonic() - began
        if line.startswith("ready: "):
            rows.append(_part("installed and started", passed))
        found = re.search(r"sample_published sample=([a-z]+) stage=RUNNING", line)
        if found and found.group(1) not in running:
            running.add(found.group(1))
            rows.append(_part(f"{found.group(1)} runs", passed))
        if len(running) == SAMPLES:
            return rows
        if passed > LIMIT_S:
            break
    raise AssertionError(f"only {sorted(running)} run")


def _part(what: str, seconds: float) -> Row:
    return Row("fresh", what, seconds, 0.0, "s", "printed", True)
