"""The way to the workers, and the only place of the orchestrator that names the builder's contract."""

from typing import Protocol

from builder.contract import (
    CONTRACT_VERSION,
    BuildOrder,
    BuildResult,
    Failure,
    Image,
    LogBatch,
    Phase,
    PhaseReport,
)

__all__ = [
    "CONTRACT_VERSION",
    "BuildOrder",
    "BuildQueue",
    "BuildResult",
    "Failure",
    "Image",
    "LogBatch",
    "Phase",
    "PhaseReport",
]


class BuildQueue(Protocol):
    def send(self, order: BuildOrder) -> None:
        """Hand an order to the broker. The same order may be sent twice. Raises Unavailable."""
        ...

    def workers(self) -> int:
        """How many workers answer; 0 if none or the broker is away. Blocks up to a second."""
        ...
