"""Replicas, routes and what the gateways said about them.

All route changes are in one order: each takes the next number of one counter, in the transaction that makes the
change. The counter's row stays locked until that transaction ends, so a reader that has seen number N will never be
shown a smaller one later; that is what lets a gateway ask for "everything after N".

In a transaction the Space's row is locked first, the route's next, the counter's last.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, exists, select, update

from orchestrator.adapters.database.part import Part, insert_into, lock_space
from orchestrator.adapters.database.rows import plain_text, to_gateway, to_replica, to_route
from orchestrator.adapters.database.tables import counters, gateways, replicas, routes, spaces
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import ReplicaId
from orchestrator.domain.space import Gateway, Replica, Route, RouteMode, Space
from orchestrator.errors import Bug, Missing

_GENERATION, _HORIZON = "route_generation", "route_horizon"
_ALLOWED = {
    RouteMode.SERVE: (RouteMode.DRAIN, RouteMode.GONE),
    RouteMode.DRAIN: (RouteMode.SERVE, RouteMode.GONE),
    RouteMode.GONE: (),
}
_STANDING = (RouteMode.SERVE, RouteMode.DRAIN)
_SETTABLE = frozenset(("state", "address", "started_at", "ready_at", "stop_after"))
_GATEWAY_FORGOTTEN_AFTER_S = 86_400.0


class Routes(Part):
    # --- replicas ---------------------------------------------------------------------------------------------
    def add_replica(self, replica: Replica) -> bool:
        """Also False for the work of a stale actor: the Space is gone, paused, being deleted, or of a newer wish."""
        values = {name: getattr(replica, name) for name in Replica.__dataclass_fields__}
        with self._database.write() as connection:
            try:
                row = lock_space(connection, replica.space_id)
            except Missing:
                return False
            if row["stage"] in (Stage.PAUSED, Stage.DELETING) or replica.generation < row["generation"]:
                return False
            statement = insert_into(connection, replicas).values(values).on_conflict_do_nothing()
            return connection.execute(statement.returning(replicas.c.id)).one_or_none() is not None

    def update_replica(self, replica_id: ReplicaId, **fields: Any) -> None:
        """Set fields of a replica; silent if it is gone."""
        if fields.keys() - _SETTABLE:
            raise Bug(f"These fields of a replica cannot be set: {', '.join(sorted(fields.keys() - _SETTABLE))}.")
        with self._database.write() as connection:
            connection.execute(update(replicas).where(replicas.c.id == replica_id).values(fields))

    def remove_replica(self, replica_id: ReplicaId) -> None:
        with self._database.write() as connection:
            connection.execute(delete(replicas).where(replicas.c.id == replica_id))

    def replicas(self, space_id: str | None = None) -> Sequence[Replica]:
        """Oldest first."""
        statement = select(replicas).order_by(replicas.c.started_at, replicas.c.id)
        if space_id is not None:
            statement = statement.where(replicas.c.space_id == space_id)
        with self._database.read() as connection:
            return [to_replica(row) for row in connection.execute(statement).mappings()]

    # --- routes -----------------------------------------------------------------------------------------------
    def route(self, host: str) -> Route | None:
        with self._database.read() as connection:
            row = connection.execute(_whole().where(routes.c.host == host)).mappings().one_or_none()
        return to_route(row) if row else None

    def routes(self, after: int = 0) -> Sequence[Route]:
        statement = _whole().where(routes.c.generation > after).order_by(routes.c.generation)
        with self._database.read() as connection:
            return [to_route(row) for row in connection.execute(statement).mappings()]

    def route_horizon(self) -> int:
        with self._database.read() as connection:
            return connection.scalar(select(counters.c.value).where(counters.c.name == _HORIZON)) or 0

    def serve(self, space: Space, replica: Replica, *, now: float) -> Route:
        """Replaces whatever route the host has, a draining or withdrawn one too."""
        with self._database.write() as connection:
            lock_space(connection, space.id)
            return put_route(connection, space.host, replica, now=now)

    def change_route(self, host: str, *, expect: int, mode: RouteMode, now: float) -> Route | None:
        """A withdrawn route comes back through `serve` alone; the mode that it has already changes nothing."""
        with self._database.write() as connection:
            connection.execute(select(spaces.c.id).where(spaces.c.host == host).with_for_update(key_share=True))
            row = lock_route(connection, host)
            if row is None or row["generation"] != expect:
                return None
            if row["mode"] == mode:
                return _as_it_is(connection, host)
            if mode not in _ALLOWED[RouteMode(row["mode"])]:
                raise Bug(f"A route cannot go from {row['mode']} to {mode}.")
            return set_mode(connection, row, mode, now=now)

    def prune_routes(self, before: float) -> None:
        """Raises the horizon over what it forgets, so that a gateway that has not heard of it starts anew."""
        old = (routes.c.mode == RouteMode.GONE, routes.c.since < before)
        with self._database.write() as connection:
            forgotten = connection.scalars(delete(routes).where(*old).returning(routes.c.generation)).all()
            if not forgotten:
                return
            highest = max(forgotten)
            values = {"name": _HORIZON, "value": highest}
            statement = insert_into(connection, counters).values(values)
            raised = counters.c.value < highest
            connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"value": highest}, where=raised)
            )

    # --- gateways ---------------------------------------------------------------------------------------------
    def gateway_seen(self, gateway_id: str, *, acked: int | None, quiet: Mapping[str, int], now: float) -> None:
        """`quiet` adds to what was said before; an entry is dropped once its drain is over."""
        with self._database.write() as connection:
            found = select(gateways).where(gateways.c.id == gateway_id).with_for_update()
            row = connection.execute(found).mappings().one_or_none()
            merged = {**(row["quiet"] if row else {}), **quiet}
            values = {"seen_at": now, "quiet": _still_draining(connection, merged)}
            if acked is not None:
                values["acked"] = acked
            fresh = {"id": plain_text(gateway_id, 200), "acked": 0} | values
            statement = insert_into(connection, gateways).values(fresh)
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
            if row is None:
                long_gone = gateways.c.seen_at < now - _GATEWAY_FORGOTTEN_AFTER_S
                connection.execute(delete(gateways).where(long_gone))

    def gateways(self, alive_after: float) -> Sequence[Gateway]:
        statement = select(gateways).where(gateways.c.seen_at > alive_after).order_by(gateways.c.id)
        with self._database.read() as connection:
            return [to_gateway(row) for row in connection.execute(statement).mappings()]


def _whole() -> Select[Any]:
    """Routes, each with the visibility of its Space."""
    return select(routes, spaces.c.visibility).outerjoin(spaces, spaces.c.id == routes.c.space_id)


def _as_it_is(connection: Connection, host: str) -> Route:
    return to_route(connection.execute(_whole().where(routes.c.host == host)).mappings().one())


def _still_draining(connection: Connection, quiet: Mapping[str, int]) -> dict[str, int]:
    if not quiet:
        return {}
    draining = select(routes.c.host, routes.c.generation).where(routes.c.mode == RouteMode.DRAIN)
    return {host: generation for host, generation in connection.execute(draining) if quiet.get(host) == generation}


def next_generation(connection: Connection) -> int:
    """The next position in the order of route changes; other changers wait until this transaction ends."""
    statement = insert_into(connection, counters).values(name=_GENERATION, value=1)
    raised = statement.on_conflict_do_update(index_elements=["name"], set_={"value": counters.c.value + 1})
    value: int = connection.scalars(raised.returning(counters.c.value)).one()
    return value


def lock_route(connection: Connection, host: str) -> RowMapping | None:
    statement = select(routes).where(routes.c.host == host).with_for_update()
    return connection.execute(statement).mappings().one_or_none()


def serves(connection: Connection, space_id: str) -> bool:
    """Whether visitors of the Space reach a replica: also while it drains, for those who are still there."""
    standing = exists().where(routes.c.space_id == space_id, routes.c.mode.in_(_STANDING))
    return bool(connection.scalar(select(standing)))


def put_route(connection: Connection, host: str, replica: Replica, *, now: float) -> Route:
    """Point `host` at the replica. The Space's row is locked by the caller."""
    values = {
        "space_id": replica.space_id,
        "mode": RouteMode.SERVE,
        "address": replica.address,
        "replica_id": replica.id,
        "generation": next_generation(connection),
        "since": now,
    }
    statement = insert_into(connection, routes).values(host=host, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["host"], set_=values))
    return _as_it_is(connection, host)


def set_mode(connection: Connection, row: RowMapping, mode: RouteMode, *, now: float) -> Route:
    """Give the route in `row` another mode and the next generation. Its row is locked by the caller."""
    values = {"mode": mode, "generation": next_generation(connection), "since": now}
    connection.execute(update(routes).where(routes.c.host == row["host"]).values(values))
    return _as_it_is(connection, row["host"])


def announce_visibility(connection: Connection, space_id: str) -> None:
    """The standing routes of a Space change for the gateways when its visibility does. Its row is locked."""
    standing = select(routes).where(routes.c.space_id == space_id, routes.c.mode.in_(_STANDING))
    for row in connection.execute(standing.order_by(routes.c.host).with_for_update()).mappings().all():
        set_mode(connection, row, RouteMode(row["mode"]), now=row["since"])


def withdraw(connection: Connection, space_id: str, *, now: float, replica_id: str | None = None) -> bool:
    """Withdraw the standing routes of a Space, or those that lead to one replica; whether there were any."""
    standing = select(routes).where(routes.c.space_id == space_id, routes.c.mode.in_(_STANDING))
    if replica_id is not None:
        standing = standing.where(routes.c.replica_id == replica_id)
    rows = connection.execute(standing.order_by(routes.c.host).with_for_update()).mappings().all()
    for row in rows:
        set_mode(connection, row, RouteMode.GONE, now=now)
    return bool(rows)
