"""Leases with fencing numbers, the durations of wakes, and small values of the installation."""

from collections.abc import Sequence

from sqlalchemy import case, delete, or_, select, update

from orchestrator.adapters.database.part import Part, insert_into, lock_space
from orchestrator.adapters.database.tables import kept_values, leases, wakes

WAKES_KEPT = 50
"""Durations kept per Space: enough for an estimate that follows the app as it changes."""


class Leases(Part):
    def record_wake(self, space_id: str, *, took_s: float, now: float) -> None:
        with self._database.write() as connection:
            lock_space(connection, space_id)
            connection.execute(insert_into(connection, wakes).values(space_id=space_id, at=now, took_s=took_s))
            newest = select(wakes.c.id).where(wakes.c.space_id == space_id).order_by(wakes.c.id.desc())
            oldest_kept = connection.scalar(newest.offset(WAKES_KEPT - 1).limit(1))
            if oldest_kept is not None:
                connection.execute(delete(wakes).where(wakes.c.space_id == space_id, wakes.c.id < oldest_kept))

    def recent_wakes(self, space_id: str, limit: int = 10) -> Sequence[float]:
        statement = select(wakes.c.took_s).where(wakes.c.space_id == space_id).order_by(wakes.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return list(connection.scalars(statement))

    def take_lease(self, name: str, holder: str, *, ttl_s: float, now: float) -> int | None:
        """One statement decides, so that of two takers one wins on every database."""
        mine = leases.c.holder == holder
        values = {"name": name, "holder": holder, "fencing": 1, "expires_at": now + ttl_s}
        taken = {
            "holder": holder,
            "expires_at": now + ttl_s,
            "fencing": leases.c.fencing + case((mine, 0), else_=1),
        }
        with self._database.write() as connection:
            statement = insert_into(connection, leases).values(values)
            free = or_(mine, leases.c.expires_at <= now)
            upsert = statement.on_conflict_do_update(index_elements=["name"], set_=taken, where=free)
            return connection.scalars(upsert.returning(leases.c.fencing)).one_or_none()

    def drop_lease(self, name: str, holder: str) -> None:
        """The row stays, since its number must go on rising. Silent if another has the lease."""
        mine = (leases.c.name == name, leases.c.holder == holder)
        with self._database.write() as connection:
            connection.execute(update(leases).where(*mine).values(holder="", expires_at=0.0))

    def get_value(self, key: str) -> str | None:
        with self._database.read() as connection:
            return connection.scalar(select(kept_values.c.value).where(kept_values.c.key == key))

    def set_value(self, key: str, value: str) -> None:
        with self._database.write() as connection:
            statement = insert_into(connection, kept_values).values(key=key, value=value)
            connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))
