"""Following a Space until it runs or needs its author: live on a terminal, a line per phase elsewhere."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from orchestrator.cli.common import err, printable
from orchestrator.client.hub import Hub
from orchestrator.domain.lifecycle import MOVING
from orchestrator.errors import DormouseError, Refused, Unavailable
from orchestrator.web.ui.words import PHASES, phase_words

POLL_S = 0.3
LIMIT_S = 3600.0
AWAY_LIMIT_S = 20.0
"""A restart of the API in between is no reason to give up."""
BRIEF_S = 1.0
LOG_LINES = 20
_ORDER = ("", *PHASES, "waiting for a place", "starting")

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
    """Show the phases of a Space until it runs, or sleeps until it is wanted.

    Raises Refused with the reason, after the last lines of the log that tells more, if it ends otherwise.
    """
    with Phases(console) as phases:
        status = until_settled(lambda: hub.status(name), phases.show, limit_s=limit_s)
    if status["stage"] not in ("RUNNING", "SLEEPING"):
        show_log(hub, name, status["stage"], console)
        raise Refused(verdict(name, status))
    return status


def show_log(hub: Hub, name: str, stage: str, console: Console) -> None:
    """The last lines of the log that says why, where there is one."""
    kind = {"BUILD_ERROR": "build", "RUNTIME_ERROR": "run"}.get(stage)
    if kind is None:
        return
    with contextlib.suppress(DormouseError), hub.logs(name, kind, follow=False) as log:
        lines = deque(log, maxlen=LOG_LINES)
        if lines:
            console.print(f"The end of its {kind} log:", markup=False)
        for line in lines:
            console.print(f"  | {printable(line)}", markup=False)


def verdict(name: str, status: Status) -> str:
    """Why it does not run, what to do, and where to look."""
    reason = printable(str(status.get("message") or status.get("detail") or ""))
    page = status.get("page")
    return f"{name} does not run ({status['stage']}). {reason}" + (f"\nSee {page}" if page else "")


class Seconds(ProgressColumn):
    """How long a phase has taken so far."""

    def render(self, task: Task) -> Text:
        elapsed_s = task.finished_time if task.finished else task.elapsed
        return Text(f"{elapsed_s or 0.0:.1f} s", style="dim")


class Phases:
    """Shows one line for each phase with its time; on a terminal the last one is live.

    Phases that are over within a second are not worth a line, and a step back is shown only if it lasts: between two
    rows of the database a build may look as if it were waiting again.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._phase, self._seen = "", ""
        self._began = self._seen_at = clock()
        self._printed = True
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
        self._leave()
        self._progress.stop()

    def show(self, status: Status) -> None:
        """Take note of a status."""
        phase = printable(str(status.get("phase") or status["stage"].lower()))
        moving = status["stage"] in MOVING
        if phase != self._seen:
            self._seen, self._seen_at = phase, self._clock()
        lasts = self._clock() - self._seen_at >= BRIEF_S
        if phase != self._phase and (lasts or not moving or _rank(phase) > _rank(self._phase)):
            self._leave()
            self._phase, self._began, self._printed = phase, self._seen_at, not moving
        if phase == self._phase and moving:
            self._update(status)

    def _update(self, status: Status) -> None:
        words = phase_words(self._phase)
        if not self._console.is_terminal:
            if not self._printed and self._clock() - self._began >= BRIEF_S:
                self._console.print(f"{words} ...", markup=False)
                self._printed = True
            return
        eta_s = status.get("eta_s")
        if self._task is None:
            self._task = self._progress.add_task(words, total=eta_s or None, detail="")
        done = min(float(status.get("elapsed_s") or 0.0), eta_s) if eta_s else None
        detail = escape(printable(str(status.get("detail", ""))[:80]))
        self._progress.update(self._task, detail=detail, total=eta_s or None, completed=done)

    def _leave(self) -> None:
        """The phase is over: its line stays if it took long enough to be read."""
        if self._task is None:
            return
        if self._clock() - self._began < BRIEF_S:
            self._progress.remove_task(self._task)
        else:
            self._progress.update(self._task, total=1, completed=1, detail="")
        self._task = None


def _rank(phase: str) -> int:
    """The place of a phase in the order in which a Space goes through them."""
    return _ORDER.index(phase) if phase in _ORDER else len(_ORDER)
