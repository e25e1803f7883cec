"""Logs of builds and replicas: kept on disk, read from the start, followed to the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class LogLine:
    at: float
    text: str


class Logs(Protocol):
    """All methods block for a short time. A log is a sequence of lines addressed by position."""

    def append_build(self, build_id: str, first: int, lines: Sequence[tuple[float, str]]) -> int:
        """Append lines; those before the end (`first` too small) are repeats and dropped. The log's length after it."""
        ...

    def read_build(self, build_id: str, start: int = 0, limit: int = 1000) -> Sequence[LogLine]: ...

    def read_run(self, space_id: str, cursor: str = "", limit: int = 1000) -> tuple[Sequence[LogLine], str]:
        """Lines of the Space's replicas, oldest kept first; the cursor continues there."""
        ...

    def tail_run(self, space_id: str, lines: int = 20, *, since: float | None = None) -> Sequence[LogLine]:
        """The newest lines. With `since` only those of the newest replica, and none that is older than that."""
        ...

    def prune(self, space_id: str, *, keep: int, build_ids: Sequence[str]) -> None:
        """Remove the logs of these builds, and those of all but the newest `keep` replicas of the Space."""
        ...

    def delete_space(self, space_id: str, build_ids: Sequence[str]) -> None: ...
