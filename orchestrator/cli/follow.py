"""Following a Space until it runs or needs its author: live on a terminal, a line per phase elsewhere."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from orchestrator.cli.common import err
from orchestrator.client.hub import Hub
from orchestrator.domain.lifecycle import MOVING
from orchestrator.errors import Refused, Unavailable

POLL_S = 0.3
LIMIT_S = 3600.0
AWAY_LIMIT_S = 20.0
"""A restart of the API in between is no reason to give up."""

Status = Mapping[str, Any]


def until_settled(look: Callable[[], Status], show: Callable[[Status], None], *, limit_s: float = LIMIT_S) -> Status:
    """Look until the stage is one that does not end by itself; the last status. Raises Unavailable past the limit."""
    deadline, answered_at = time.monotonic() + limit_s, time.monotonic()
    while True:
        try:
            status = look()
        except Unavailable:
            if time.monotonic() - answered_at > AWAY_LIMIT_S:
                raise
        else:
            answered_at = time.monotonic()
            show(status)
            if status["stage"] not in MOVING:
                return status
        if time.monotonic() > deadline:
            raise Unavailable(f"It is still not running after {limit_s:.0f} s: look at its page.")
        time.sleep(POLL_S)


def follow(hub: Hub, name: str, *, limit_s: float = LIMIT_S, console: Console = err) -> Status:
    """Show the phases of a Space until it runs. Raises Refused with the reason if it ends otherwise."""
    with Phases(console) as phases:
        status = until_settled(lambda: hub.status(name), phases.show, limit_s=limit_s)
    if status["stage"] != "RUNNING":
        raise Refused(verdict(name, status))
    return status


def verdict(name: str, status: Status) -> str:
    """Why it does not run, what to do, and where to look."""
    reason = status.get("message") or status.get("detail") or ""
    page = status.get("page")
    return f"{name} does not run ({status['stage']}). {reason}" + (f"\nSee {page}" if page else "")


class Seconds(ProgressColumn):
    """How long a phase has taken so far; phases are often shorter than a second."""

    def render(self, task: Task) -> Text:
        elapsed_s = task.finished_time if task.finished else task.elapsed
        return Text(f"{elapsed_s or 0.0:.1f} s", style="dim")


class Phases:
    """Shows one line for each phase with its time; on a terminal the last one is live."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase, self._began = "", time.monotonic()
        self._task: TaskID | None = None
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=20)),
            BarColumn(bar_width=20, table_column=Column(no_wrap=True, min_width=20)),
            Seconds(table_column=Column(no_wrap=True, min_width=7, justify="right")),
            TextColumn("[dim]{task.fields[detail]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._finish()
        self._progress.stop()

    def show(self, status: Status) -> None:
        """Take note of a status."""
        phase = str(status.get("phase") or status["stage"].lower())
        if phase != self._phase:
            self._finish()
            self._phase, self._began = phase, time.monotonic()
            if status["stage"] in MOVING:
                self._start(status)
        if self._task is not None:
            eta_s = status.get("eta_s")
            done = min(float(status.get("elapsed_s") or 0.0), eta_s) if eta_s else None
            self._progress.update(
                self._task, detail=str(status.get("detail", ""))[:80], total=eta_s or None, completed=done
            )

    def _start(self, status: Status) -> None:
        if self._console.is_terminal:
            self._task = self._progress.add_task(self._phase, total=status.get("eta_s") or None, detail="")
        else:
            self._console.print(f"{self._phase} ...", markup=False)
            self._task = None

    def _finish(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=1, completed=1, detail="")
            self._task = None
