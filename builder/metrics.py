"""What the worker counts. The supervisor's folder for multi-process metrics is read by the API."""

from prometheus_client import Counter, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800)

phase_seconds = Histogram(
    "dormouse_build_phase_seconds", "Duration of one phase of a build", ["phase", "outcome"], buckets=_SECONDS
)
environments = Counter("dormouse_environments", "Environments handed to builds, by where they came from", ["origin"])
builds = Counter("dormouse_builds", "Builds that ended, by how", ["outcome"])
