"""What the metrics of all processes share: where they are kept, how they are joined.

Every process writes its samples to memory-mapped files of one folder (`prometheus_client`'s multiprocess mode), so
that `/metrics` of the API answers for all of them, and a process that was killed does not take its counts along. The
folder reaches the processes as `PROMETHEUS_MULTIPROC_DIR`, which must be set before `prometheus_client` is imported.
"""

import shutil
from pathlib import Path

ENVIRONMENT = "PROMETHEUS_MULTIPROC_DIR"

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds of a request to the API or the internal API."""


def fresh_folder(run: Path) -> Path:
    """An empty folder for this run's samples: counters start at zero with the installation, as Prometheus expects."""
    folder = run / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def forget_process(folder: Path, pid: int) -> None:
    """Drop the live gauges of a process that has ended; its counters stay in the sum."""
    for kind in ("livesum", "liveall", "livemin", "livemax", "livemostrecent"):
        (folder / f"gauge_{kind}_{pid}.db").unlink(missing_ok=True)


def render() -> tuple[bytes, str]:
    """The samples of all processes in Prometheus' text format, with its content type."""
    import os

    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    if not os.environ.get(ENVIRONMENT):
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
