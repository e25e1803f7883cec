"""Small helpers of the benchmarks: a running product, the bare app, results."""

import json
import os
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.product import Product, free_port

RESULTS = Path(__file__).parent / "results"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
POLL_S = 0.003


@dataclass(frozen=True)
class Row:
    """One comparison. `reached` says whether the goal was met in this run."""

    part: str
    what: str
    measured: float
    floor: float
    unit: str
    goal: str
    reached: bool
    samples: tuple[float, ...] = ()
    floor_samples: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        return self.measured / self.floor if self.floor else float("nan")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def save(part: str, rows: Sequence[Row]) -> None:
    RESULTS.mkdir(exist_ok=True)
    body = {"part": part, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": os.getloadavg()}
    body["rows"] = [{**asdict(row), "ratio": round(row.ratio, 3)} for row in rows]
    (RESULTS / f"{part}.json").write_text(json.dumps(body, indent=2) + "\n")


def sample(product: Product, name: str) -> None:
    """Publish a bundled sample and wait until it runs."""
    product.create(name, name)
    product.push(name, EXAMPLES / name)
    product.wait_stage(name, "RUNNING")


@dataclass(frozen=True)
class Built:
    """Where the newest image of a Space lies."""

    snapshot: Path
    environment: Path
    command: tuple[str, ...]

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"


def built(product: Product, name: str) -> Built:
    with sqlite3.connect(product.data / "dormouse.db") as database:
        row = database.execute(
            "select r.image from revisions r join spaces s on s.id = r.space_id where s.name = ? "
            "order by r.created_at desc limit 1",
            (name,),
        ).fetchone()
    image: dict[str, Any] = json.loads(row[0])
    return Built(product.data / image["snapshot"], product.data / image["environment"], tuple(image["command"]))


@contextmanager
def bare(app: Built, port: int) -> Iterator[float]:
    """The app started as its author would on this machine: no sandbox, no hook; yields exec -> first 200 in seconds."""
    command = [str(app.python) if part == "{python}" else part for part in app.command]
    environment = {
        "PATH": f"{app.environment}/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "STREAMLIT_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(port) if part == "7860" else part for part in command]
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=app.snapshot, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        first_200(f"http://127.0.0.1:{port}/")
        yield time.monotonic() - began
    finally:
        process.kill()
        process.wait()


def first_200(url: str, limit_s: float = 120.0) -> None:
    end = time.monotonic() + limit_s
    with httpx.Client(timeout=30) as client:
        while time.monotonic() < end:
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(POLL_S)
    raise TimeoutError(url)


def bare_start(app: Built) -> float:
    with bare(app, free_port()) as took:
        return took
