"""Builds and the revisions that come out of them.

A Space has at most one unfinished build (a unique index says so): asking for one supersedes the one before. Each
change of a build is conditional on its status, so that of two workers, or a worker and the author, one wins and the
other is told. The token of a build opens nothing once the build is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, case, delete, func, or_, select, update

from orchestrator.adapters.database.part import Part, insert_into, lock_space, new_id
from orchestrator.adapters.database.rows import (
    phases_to_json,
    plain_json,
    plain_text,
    problem_to_json,
    to_build,
    to_revision,
)
from orchestrator.adapters.database.tables import UNFINISHED, builds, replicas, revisions, spaces
from orchestrator.domain.names import BuildId, CommitSha
from orchestrator.domain.space import Build, BuildStatus, PhaseTime, Problem, Revision

REVISIONS_KEPT = 10
"""Newest revisions of a Space that are kept, and with them their images; those in use are kept besides."""
_LOCK_BYTES_MAX = 4 << 20


class Builds(Part):
    def request_build(self, space_id: str, sha: CommitSha, *, factory: bool, now: float) -> Build:
        values = {
            "id": new_id(),
            "space_id": space_id,
            "sha": sha,
            "status": BuildStatus.QUEUED,
            "created_at": now,
            "phases": [],
            "attempt": 0,
            "factory": factory,
        }
        with self._database.write() as connection:
            lock_space(connection, space_id)
            unfinished = select(builds).where(builds.c.space_id == space_id, UNFINISHED).with_for_update()
            for row in connection.execute(unfinished).mappings().all():
                _end(connection, row, BuildStatus.SUPERSEDED, now=now)
            statement = insert_into(connection, builds).values(values).returning(builds)
            return to_build(connection.execute(statement).mappings().one())

    def build(self, build_id: BuildId) -> Build | None:
        with self._database.read() as connection:
            row = connection.execute(select(builds).where(builds.c.id == build_id)).mappings().one_or_none()
        return to_build(row) if row else None

    def builds(self, space_id: str, limit: int = 20) -> Sequence[Build]:
        statement = select(builds).where(builds.c.space_id == space_id).order_by(builds.c.number.desc()).limit(limit)
        with self._database.read() as connection:
            return [to_build(row) for row in connection.execute(statement).mappings()]

    def unfinished_builds(self) -> Sequence[Build]:
        statement = select(builds).where(UNFINISHED).order_by(builds.c.number)
        with self._database.read() as connection:
            return [to_build(row) for row in connection.execute(statement).mappings()]

    def build_sent(self, build_id: BuildId, *, token_hash: str, now: float) -> bool:
        """The token replaces the one of an earlier sending."""
        queued = (builds.c.id == build_id, builds.c.status == BuildStatus.QUEUED)
        with self._database.write() as connection:
            values = {"sent_at": now, "token_hash": token_hash}
            return bool(connection.execute(update(builds).where(*queued).values(values)).rowcount)

    def build_not_sent(self, build_id: BuildId) -> None:
        statement = update(builds).where(builds.c.id == build_id, builds.c.status == BuildStatus.QUEUED)
        with self._database.write() as connection:
            connection.execute(statement.values(sent_at=None, token_hash=None))

    def forget_old_builds(self, space_id: str, *, keep: int) -> Sequence[BuildId]:
        mine = select(builds.c.number).where(builds.c.space_id == space_id).order_by(builds.c.number.desc())
        named = select(revisions.c.build_id).where(revisions.c.space_id == space_id)
        with self._database.write() as connection:
            oldest_kept = connection.scalar(mine.offset(keep - 1).limit(1))
            if oldest_kept is None:
                return ()
            old = (
                builds.c.space_id == space_id,
                builds.c.number < oldest_kept,
                builds.c.finished_at.is_not(None),
                builds.c.id.not_in(named),
            )
            return [BuildId(found) for found in connection.scalars(delete(builds).where(*old).returning(builds.c.id))]

    def build_by_token(self, token_hash: str) -> Build | None:
        statement = select(builds).where(builds.c.token_hash == token_hash, UNFINISHED)
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().one_or_none()
        return to_build(row) if row else None

    def build_claimed(self, build_id: BuildId, *, worker: str, lease_until: float, now: float) -> bool:
        queued = builds.c.status == BuildStatus.QUEUED
        mine = (builds.c.status == BuildStatus.RUNNING) & (builds.c.worker == worker)
        values = {
            "status": BuildStatus.RUNNING,
            "worker": worker,
            "lease_until": lease_until,
            "started_at": func.coalesce(builds.c.started_at, now),
            "attempt": builds.c.attempt + case((queued, 1), else_=0),
        }
        with self._database.write() as connection:
            statement = update(builds).where(builds.c.id == build_id, or_(queued, mine)).values(values)
            return bool(connection.execute(statement).rowcount)

    def build_phase(self, build_id: BuildId, phase: str, *, detail: str, now: float) -> bool:
        """The phase that runs already only gets the new detail: a report may come twice."""
        with self._database.write() as connection:
            row = _lock_unfinished(connection, build_id)
            if row is None:
                return False
            phases = to_build(row).phases
            if phases and phases[-1].name == phase and phases[-1].ended_at is None:
                phases = (*phases[:-1], replace(phases[-1], detail=detail))
            else:
                phases = (*_closed(phases, now), PhaseTime(name=plain_text(phase, 100), started_at=now, detail=detail))
            values = {"phases": phases_to_json(phases)}
            connection.execute(update(builds).where(builds.c.id == build_id).values(values))
            return True

    def build_requeued(self, build_id: BuildId, *, now: float) -> bool:
        """Its phases begin anew. The old token stays good until the build is sent again: its worker may yet live."""
        running = (builds.c.id == build_id, builds.c.status == BuildStatus.RUNNING)
        values: dict[str, Any] = {
            "status": BuildStatus.QUEUED,
            "worker": None,
            "lease_until": None,
            "sent_at": None,
            "phases": [],
        }
        with self._database.write() as connection:
            return bool(connection.execute(update(builds).where(*running).values(values)).rowcount)

    def build_finished(
        self, build_id: BuildId, status: BuildStatus, *, now: float, problem: Problem | None = None
    ) -> bool:
        with self._database.write() as connection:
            row = _lock_unfinished(connection, build_id)
            if row is None:
                return False
            _end(connection, row, status, now=now, problem=problem)
            return True

    # --- revisions --------------------------------------------------------------------------------------------
    def add_revision(self, revision: Revision) -> None:
        """Silent if a revision of that id exists. Forgets the oldest ones beyond those that are kept."""
        values = {name: getattr(revision, name) for name in Revision.__dataclass_fields__}
        values |= {"title": plain_text(revision.title, 500), "image": plain_json(revision.image)}
        values["lock"] = plain_text(revision.lock, _LOCK_BYTES_MAX)
        with self._database.write() as connection:
            lock_space(connection, revision.space_id)
            connection.execute(insert_into(connection, revisions).values(values).on_conflict_do_nothing())
            _forget_old_revisions(connection, revision.space_id)

    def revision(self, revision_id: str) -> Revision | None:
        with self._database.read() as connection:
            row = connection.execute(select(revisions).where(revisions.c.id == revision_id)).mappings().one_or_none()
        return to_revision(row) if row else None

    def revisions(self, space_id: str, limit: int = 20) -> Sequence[Revision]:
        """Newest first."""
        mine = select(revisions).where(revisions.c.space_id == space_id)
        with self._database.read() as connection:
            rows = connection.execute(mine.order_by(revisions.c.number.desc()).limit(limit)).mappings()
            return [to_revision(row) for row in rows]

    def images_in_use(self) -> Sequence[Mapping[str, Any]]:
        with self._database.read() as connection:
            return list(connection.scalars(select(revisions.c.image).order_by(revisions.c.number)))


def _lock_unfinished(connection: Connection, build_id: str) -> RowMapping | None:
    statement = select(builds).where(builds.c.id == build_id, UNFINISHED).with_for_update()
    return connection.execute(statement).mappings().one_or_none()


def _closed(phases: tuple[PhaseTime, ...], now: float) -> tuple[PhaseTime, ...]:
    return tuple(phase if phase.ended_at is not None else replace(phase, ended_at=now) for phase in phases)


def _end(
    connection: Connection, row: RowMapping, status: BuildStatus, *, now: float, problem: Problem | None = None
) -> None:
    values = {
        "status": status,
        "finished_at": now,
        "phases": phases_to_json(_closed(to_build(row).phases, now)),
        "problem": problem_to_json(problem),
        "lease_until": None,
        "token_hash": None,
    }
    connection.execute(update(builds).where(builds.c.id == row["id"]).values(values))


def _forget_old_revisions(connection: Connection, space_id: str) -> None:
    newest = select(revisions.c.number).where(revisions.c.space_id == space_id).order_by(revisions.c.number.desc())
    oldest_kept = connection.scalar(newest.offset(REVISIONS_KEPT - 1).limit(1))
    if oldest_kept is None:
        return
    named = select(spaces.c.revision_id, spaces.c.good_revision_id).where(spaces.c.id == space_id)
    wanted = [revision for revision in connection.execute(named).one() if revision is not None]
    running = select(replicas.c.revision_id).where(replicas.c.space_id == space_id)
    connection.execute(
        delete(revisions).where(
            revisions.c.space_id == space_id,
            revisions.c.number < oldest_kept,
            revisions.c.id.not_in(wanted),
            revisions.c.id.not_in(running),
        )
    )
