"""What happens to Spaces: the only code that changes a stage.

Each method is one transaction that locks the Space's row, asks `lifecycle.advance` for the new stage and writes stage,
generation, history and what goes with them together, so that no observer sees half a change. Beside the stage:

- **generation** rises when what is wanted changes (`_wants_anew`), so that work which was begun for the old wish is
  refused.
- **back-off** (`start_failures`, `start_not_before`) is forgotten when there is reason to hope: a commit, another
  revision, a restart, and a Space that lived until it fell asleep. Neither a visit nor a replica that answers is one,
  or an app that dies at every first request would be started as fast as visitors ask.
- **problem** is forgotten by a commit and a restart; any other event keeps it, since an older revision may run or
  sleep while the newest commit is an error.
- **wake_asked_at** is set by the visit that wakes, and forgotten when the Space leaves that wake in another way than
  by a replica that answers.
- **updated_at** follows what authors do, not sleep and wake.

A caller's `fields` win over all of these.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, select, update

from orchestrator.adapters.database.part import Part, insert_into, lock_space
from orchestrator.adapters.database.routes import lock_route, put_route, serves, set_mode, withdraw
from orchestrator.adapters.database.rows import plain_text, to_replica, to_space
from orchestrator.adapters.database.spaces import change_space, column_values
from orchestrator.adapters.database.tables import events, replicas, spaces
from orchestrator.domain import lifecycle
from orchestrator.domain.lifecycle import Event, ImpossibleTransition, Stage
from orchestrator.domain.names import ReplicaId
from orchestrator.domain.space import Replica, ReplicaState, Route, RouteMode, Space
from orchestrator.errors import Conflict, Missing

EVENTS_KEPT = 200
"""Entries of a Space's history; a Space that sleeps and wakes for years keeps the newest."""
_WANTED = frozenset((Event.COMMIT_ACCEPTED, Event.RESTART, Event.PAUSE, Event.DELETE))
_BY_AUTHOR = frozenset(
    (Event.COMMIT_ACCEPTED, Event.CONFIG_REFUSED, Event.APP_FILE_MISSING, Event.RESTART, Event.PAUSE, Event.DELETE)
)
_HOPEFUL = frozenset((Event.COMMIT_ACCEPTED, Event.RESTART, Event.IDLE))
_ENDS_WAKE = frozenset((Event.COMMIT_ACCEPTED, Event.RESTART, Event.PAUSE, Event.IDLE, Event.REPLICA_LOST))


class Life(Part):
    def happen(
        self,
        space_id: str,
        event: Event,
        *,
        now: float,
        text: str = "",
        expect: int | None = None,
        **fields: Any,
    ) -> Space:
        with self._database.write() as connection:
            row = lock_space(connection, space_id)
            if expect is not None and row["generation"] != expect:
                raise Conflict(f"{row['owner']}/{row['name']} has changed meanwhile: look at it again.")
            return _apply(connection, row, event, now=now, text=text, fields=fields)

    def fall_asleep(self, space_id: str, host: str, *, expect: int, now: float) -> bool:
        with self._database.write() as connection:
            try:
                row = lock_space(connection, space_id)
            except Missing:
                return False
            route = lock_route(connection, host)
            drained = route is not None and route["mode"] == RouteMode.DRAIN and route["space_id"] == space_id
            if route is None or not drained or route["generation"] != expect:
                return False
            if not _allows(row, Event.IDLE):
                return False
            set_mode(connection, route, RouteMode.GONE, now=now)
            _apply(connection, row, Event.IDLE, now=now)
            return True

    def lose_replica(self, space_id: str, replica_id: ReplicaId, *, now: float, text: str) -> Space | None:
        with self._database.write() as connection:
            try:
                row = lock_space(connection, space_id)
            except Missing:
                return None
            mine = (replicas.c.id == replica_id, replicas.c.space_id == space_id)
            if not connection.execute(delete(replicas).where(*mine)).rowcount:
                return None
            if not withdraw(connection, space_id, replica_id=replica_id, now=now):
                return to_space(row)
            return _apply(connection, row, Event.REPLICA_LOST, now=now, text=text)

    def replica_ready(self, replica_id: ReplicaId, address: str, *, now: float, grace_s: float) -> Route | None:
        with self._database.write() as connection:
            row, replica = _lock_replica(connection, replica_id)
            if row is None or replica is None:
                return None
            if not _is_wanted(connection, row, replica):
                _stop(connection, replica, stop_after=now)
                return None
            ready = {"state": ReplicaState.READY, "address": address, "ready_at": now}
            statement = update(replicas).where(replicas.c.id == replica_id).values(ready).returning(replicas)
            replica = to_replica(connection.execute(statement).mappings().one())
            _replace_others(connection, replica, stop_after=now + grace_s)
            route = put_route(connection, row["host"], replica, now=now)
            _apply(connection, row, Event.REPLICA_READY, now=now)
            return route

    def forget_space(self, space_id: str) -> None:
        """Silent if it is gone. A route that still stands is withdrawn and outlives the Space until it is pruned."""
        with self._database.write() as connection:
            try:
                row = lock_space(connection, space_id)
            except Missing:
                return
            if row["stage"] != Stage.DELETING:
                raise Conflict(f"{row['owner']}/{row['name']} is not being deleted.")
            withdraw(connection, space_id, now=row["stage_since"])
            connection.execute(delete(spaces).where(spaces.c.id == space_id))


def _apply(
    connection: Connection,
    row: RowMapping,
    event: Event,
    *,
    now: float,
    text: str = "",
    fields: Mapping[str, Any] | None = None,
) -> Space:
    """Apply `event` to the Space in `row`, whose lock is held and whose routes are as they will be after it."""
    before = Stage(row["stage"])
    after = lifecycle.advance(before, event, serving=serves(connection, row["id"]))
    if event is Event.VISITED and after is before and not fields:
        return to_space(row)  # One of many visitors of a Space that is on its way: nothing to write.
    values = _consequences(row, event, fields or {}, now) | column_values(row, fields or {})
    if after is not before:
        values |= {"stage": after, "stage_since": now}
    space = change_space(connection, row, values)
    _note(connection, row["id"], event, text, now)
    return space


def _consequences(row: RowMapping, event: Event, fields: Mapping[str, Any], now: float) -> dict[str, Any]:
    """What changes with the event beside the stage, unless the caller says otherwise."""
    values: dict[str, Any] = {}
    wants_anew = _wants_anew(row, event, fields)
    if wants_anew:
        values["generation"] = row["generation"] + 1
    if event in _HOPEFUL or (event is Event.BUILD_SUCCEEDED and wants_anew):
        values |= {"start_failures": 0, "start_not_before": 0.0}
    if event in (Event.COMMIT_ACCEPTED, Event.RESTART):
        values["problem"] = None
    if event is Event.IDLE:
        values["sleep_asked_at"] = None
    if event in _ENDS_WAKE:
        values["wake_asked_at"] = None
    elif event is Event.VISITED and row["stage"] == Stage.SLEEPING:
        values["wake_asked_at"] = now
    if event in _BY_AUTHOR:
        values["updated_at"] = max(now, row["updated_at"])
    return values


def _wants_anew(row: RowMapping, event: Event, fields: Mapping[str, Any]) -> bool:
    stage = row["stage"]
    if event is Event.VISITED:
        return bool(stage == Stage.SLEEPING)
    if event is Event.BUILD_SUCCEEDED:
        return bool(fields.get("revision_id", row["revision_id"]) != row["revision_id"])
    repeated = (event, stage) in ((Event.PAUSE, Stage.PAUSED), (Event.DELETE, Stage.DELETING))
    return event in _WANTED and not repeated


def _note(connection: Connection, space_id: str, event: Event, text: str, now: float) -> None:
    entry = {"space_id": space_id, "at": now, "kind": event.value, "text": plain_text(text, 1000)}
    number = connection.scalars(insert_into(connection, events).values(entry).returning(events.c.id)).one()
    if number % 16:
        return  # The cut is made now and then: it reads as many entries as are kept.
    kept = select(events.c.id).where(events.c.space_id == space_id).order_by(events.c.id.desc())
    oldest = connection.scalar(kept.offset(EVENTS_KEPT - 1).limit(1))
    if oldest is not None:
        connection.execute(delete(events).where(events.c.space_id == space_id, events.c.id < oldest))


def _allows(row: RowMapping, event: Event) -> bool:
    try:
        lifecycle.advance(Stage(row["stage"]), event, serving=False)
    except ImpossibleTransition:
        return False
    return True


def _lock_replica(connection: Connection, replica_id: ReplicaId) -> tuple[RowMapping | None, Replica | None]:
    """The Space's row, locked, and the replica as it is under that lock."""
    statement = select(replicas).where(replicas.c.id == replica_id)
    found = connection.execute(statement).mappings().one_or_none()
    if found is None:
        return None, None
    try:
        row = lock_space(connection, found["space_id"])
    except Missing:
        return None, None
    found = connection.execute(statement.with_for_update()).mappings().one_or_none()
    return (row, to_replica(found)) if found else (None, None)


def _is_wanted(connection: Connection, row: RowMapping, replica: Replica) -> bool:
    """Whether a replica that answers now may take the Space's visitors.

    Where the newest revision is to start, only a replica that was started for just that may: one of an older
    generation lacks the commit, the variables or the clean start that somebody waits for. Elsewhere (the newest commit
    builds, or is an error) any fills a gap, but one of another revision must not replace what serves.
    """
    if replica.state is ReplicaState.STOPPING or not _allows(row, Event.REPLICA_READY):
        return False
    right = replica.revision_id == row["revision_id"]
    if lifecycle.plain(Stage(row["stage"])) in lifecycle.WANTS_REPLICA:
        return bool(right and replica.generation >= row["generation"])
    return right or not serves(connection, row["id"])


def _stop(connection: Connection, replica: Replica, *, stop_after: float) -> None:
    if replica.state is ReplicaState.STOPPING:
        return
    stopping = {"state": ReplicaState.STOPPING, "stop_after": stop_after}
    connection.execute(update(replicas).where(replicas.c.id == replica.id).values(stopping))


def _replace_others(connection: Connection, replica: Replica, *, stop_after: float) -> None:
    mine = select(replicas).where(replicas.c.space_id == replica.space_id, replicas.c.state == ReplicaState.READY)
    for row in connection.execute(mine.where(replicas.c.id != replica.id)).mappings().all():
        _stop(connection, to_replica(row), stop_after=stop_after)
