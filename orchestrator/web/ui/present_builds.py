"""From facts to what pages show of builds, revisions, logs and history. Pure; `now` is given."""

from collections.abc import Sequence
from urllib.parse import quote

from orchestrator.domain.lifecycle import Event
from orchestrator.domain.names import CommitSha
from orchestrator.domain.space import Build, BuildStatus, Revision, Space, SpaceEvent
from orchestrator.ports.logs import LogLine
from orchestrator.web.ui import text, words
from orchestrator.web.ui.present import space_path
from orchestrator.web.ui.view_models import Badge, BuildRow, EventRow, PhaseRow, RevisionRow

LIVE = (BuildStatus.QUEUED, BuildStatus.RUNNING)
FAILURES = (Event.START_FAILED.value, Event.REPLICA_LOST.value)
"""Kinds of history entries that the log page shows as the last failure."""


def outcome(build: Build) -> Badge:
    label, tone = words.OUTCOMES[build.status.value]
    return Badge(label=label, tone=tone)


def build_row(space: Space, build: Build, titles: dict[CommitSha, str], *, now: float) -> BuildRow:
    """One build in a list; `titles` has the first lines of the commits that are known."""
    began = build.started_at or build.created_at
    ended = build.finished_at or (now if build.status in LIVE else began)
    return BuildRow(
        path=f"{space_path(space.owner, space.name)}/builds/{quote(build.id, safe='')}",
        sha=build.sha[:7],
        commit_title=text.tidy(titles.get(build.sha, "")),
        outcome=outcome(build),
        asked=text.moment(build.created_at, now),
        took=text.duration(ended - began),
        factory=build.factory,
    )


def phase_rows(build: Build, *, now: float) -> tuple[PhaseRow, ...]:
    """The phases that have begun; the last one of a failed build is where it failed."""
    rows = []
    # A failure is reported, too; what failed is the phase before.
    told = build.status is BuildStatus.FAILED and len(build.phases) > 1 and build.phases[-1].name == "report"
    phases = build.phases[:-1] if told else build.phases
    for position, phase in enumerate(phases):
        last = position == len(phases) - 1
        running = phase.ended_at is None and build.status is BuildStatus.RUNNING
        failed = last and build.status is BuildStatus.FAILED
        end = phase.ended_at or build.finished_at or now
        rows.append(
            PhaseRow(
                name=phase.name,
                words=words.phase_words(phase.name),
                started=text.moment(phase.started_at, now),
                took="" if running else text.duration(end - phase.started_at),
                detail=text.tidy(phase.detail, 300),
                state="now" if running else "failed" if failed else "done",
            )
        )
    return tuple(rows)


def waits(build: Build, workers_busy: int) -> str:
    """Why a queued build has not begun."""
    if build.status is not BuildStatus.QUEUED:
        return ""
    again = " It was begun before and given back, because its worker went silent." if build.attempt else ""
    if workers_busy:
        return f"Waiting for a free builder; {workers_busy} other builds are running or ahead of it." + again
    return "Waiting for a builder to take it, which is a matter of moments." + again


def revision_rows(space: Space, revisions: Sequence[Revision], *, now: float) -> tuple[RevisionRow, ...]:
    path = space_path(space.owner, space.name)
    return tuple(
        RevisionRow(
            sha=revision.sha[:7],
            title=text.tidy(revision.title),
            created=text.moment(revision.created_at, now),
            files_path=f"{path}/tree/{revision.sha}",
            is_current=revision.id == space.revision_id,
        )
        for revision in revisions
    )


def event_rows(events: Sequence[SpaceEvent], *, now: float) -> tuple[EventRow, ...]:
    return tuple(EventRow(at=text.moment(event.at, now), text=_sentence(event.text or event.kind)) for event in events)


def _sentence(words: str) -> str:
    plain = text.tidy(words, 300)
    return plain[:1].upper() + plain[1:]


def last_failure(events: Sequence[SpaceEvent]) -> SpaceEvent | None:
    """The newest crash or failed start of a history that has its newest entry first."""
    return next((event for event in events if event.kind in FAILURES), None)


def plain_lines(lines: Sequence[LogLine], keep: int) -> tuple[str, ...]:
    """The newest `keep` lines as plain text."""
    return tuple(text.log_line(line.text) for line in lines[-keep:])
