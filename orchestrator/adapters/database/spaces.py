"""Registered Spaces: making, finding, listing and changing them, with their variables and secrets.

A listing walks one index per kind of visibility and stops after `limit` rows, so a page costs the same in a house of
ten Spaces and of 400,000; the page after it begins where the last one ended (no OFFSET).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
    true,
    tuple_,
    update,
)

from orchestrator.adapters.database.part import Part, insert_into, lock_space, new_id
from orchestrator.adapters.database.routes import announce_visibility
from orchestrator.adapters.database.rows import (
    plain_json,
    plain_text,
    problem_to_json,
    search_text,
    to_event,
    to_space,
    to_variable,
)
from orchestrator.adapters.database.tables import events, spaces, users, variables
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import SpaceName, UserId, host_label
from orchestrator.domain.space import Space, SpaceEvent, Variable
from orchestrator.errors import Bug, Conflict, Invalid

_OF_THE_COMMIT = ("sdk", "card", "sha", "problem", "revision_id", "good_revision_id", "updated_at")
_OF_THE_AUTHOR = ("visibility", "sleep_time_s", "sleep_asked_at")
_OF_THE_START = ("start_failures", "start_not_before", "wake_asked_at", "last_active_at", "last_moved_at")
SETTABLE = frozenset((*_OF_THE_COMMIT, *_OF_THE_AUTHOR, *_OF_THE_START))
"""Fields of a Space that a caller may set; the stage and the generation change through events alone."""
_SORTS = ("updated_at", "created_at")
_SEARCH_MAX = 200


class Spaces(Part):
    def create_space(
        self,
        name: SpaceName,
        *,
        sdk: str,
        domain: str,
        created_by: UserId,
        visibility: str,
        now: float,
        sleep_time_s: int | None = None,
    ) -> Space:
        values = _new_row(name, now) | {
            "sdk": sdk,
            "created_by": created_by,
            "visibility": visibility,
            "sleep_time_s": sleep_time_s,
        }
        with self._database.write() as connection:
            for clash in (False, True):
                if connection.scalar(select(exists().where(*_named(name)))):
                    raise Conflict(f"There is a Space {name} already: choose another name.")
                values["host"] = f"{host_label(name, clash=clash)}.{domain}"
                statement = insert_into(connection, spaces).values(values).on_conflict_do_nothing().returning(spaces)
                row = connection.execute(statement).mappings().one_or_none()
                if row is not None:
                    return to_space(row)
        raise Conflict(f"No host name is free for {name}: choose another name.")

    def find_space(self, name: SpaceName) -> Space | None:
        return self._one(*_named(name))

    def space(self, space_id: str) -> Space | None:
        return self._one(spaces.c.id == space_id)

    def space_by_host(self, host: str) -> Space | None:
        return self._one(spaces.c.host == host.lower())

    def _one(self, *conditions: ColumnElement[bool]) -> Space | None:
        with self._database.read() as connection:
            row = connection.execute(select(spaces).where(*conditions)).mappings().one_or_none()
        return to_space(row) if row else None

    def list_spaces(
        self,
        *,
        owner: str | None = None,
        search: str | None = None,
        sort: str = "updated_at",
        limit: int = 100,
        after: tuple[float, str] | None = None,
        visible_to: UserId | None = None,
        everything: bool = False,
    ) -> Sequence[Space]:
        """Spaces that are being deleted are left out, except with `everything`."""
        if sort not in _SORTS:
            raise Invalid(f"Spaces cannot be sorted by {sort[:50]!r}: use {' or '.join(_SORTS)}.")
        key = spaces.c[sort]
        page = select(spaces).order_by(key.desc(), spaces.c.id.desc()).limit(limit)
        if not everything:
            page = page.where(spaces.c.stage != Stage.DELETING)
        if owner is not None:
            page = page.where(spaces.c.owner_key == owner.lower())
        if search:
            needle = plain_text(search, _SEARCH_MAX).lower()
            page = page.where(spaces.c.search_text.contains(needle, autoescape=True))
        if after is not None:
            page = page.where(tuple_(key, spaces.c.id) < tuple_(*after))
        rows: dict[str, RowMapping] = {}
        with self._database.read() as connection:
            for scope in _scopes(connection, visible_to, everything=everything, one_owner=owner is not None):
                rows.update((row["id"], row) for row in connection.execute(page.where(scope)).mappings())
        newest = sorted(rows.values(), key=lambda row: (row[sort], row["id"]), reverse=True)
        return [to_space(row) for row in newest[:limit]]

    def spaces_in(self, stages: Iterable[Stage]) -> Sequence[Space]:
        statement = select(spaces).where(spaces.c.stage.in_(list(stages))).order_by(spaces.c.stage_since, spaces.c.id)
        with self._database.read() as connection:
            return [to_space(row) for row in connection.execute(statement).mappings()]

    def count_by_stage(self) -> Mapping[Stage, int]:
        """Every stage is there, also with 0."""
        statement = select(spaces.c.stage, func.count()).group_by(spaces.c.stage)
        with self._database.read() as connection:
            counts = {Stage(stage): count for stage, count in connection.execute(statement)}
        return {stage: counts.get(stage, 0) for stage in Stage}

    def update_space(self, space_id: str, **fields: Any) -> Space:
        with self._database.write() as connection:
            row = lock_space(connection, space_id)
            space = change_space(connection, row, column_values(row, fields))
            if space.visibility != row["visibility"]:
                announce_visibility(connection, space_id)
            return space

    def history(self, space_id: str, limit: int = 50) -> Sequence[SpaceEvent]:
        statement = select(events).where(events.c.space_id == space_id).order_by(events.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [to_event(row) for row in connection.execute(statement).mappings()]

    def touch(self, active: Mapping[str, float], moved: Mapping[str, float]) -> None:
        if not active and not moved:
            return
        with self._database.write() as connection:
            for column, times in (("last_active_at", active), ("last_moved_at", moved)):
                # In one order everywhere, so that two gateways' reports do not lock each other's rows crosswise.
                values = [{"b_host": host, "b_at": times[host]} for host in sorted(times)]
                if values:
                    connection.execute(_raise_time(column), values)

    # --- variables and secrets --------------------------------------------------------------------------------
    def variables(self, space_id: str) -> Sequence[Variable]:
        return self._variables(space_id, secret=False)

    def secrets(self, space_id: str) -> Sequence[Variable]:
        return self._variables(space_id, secret=True)

    def _variables(self, space_id: str, *, secret: bool) -> Sequence[Variable]:
        mine = and_(variables.c.space_id == space_id, variables.c.secret.is_(secret))
        with self._database.read() as connection:
            rows = connection.execute(select(variables).where(mine).order_by(variables.c.key)).mappings()
            return [to_variable(row) for row in rows]

    def set_variable(self, space_id: str, variable: Variable, *, secret: bool) -> None:
        changing = {
            "value": variable.value,
            "description": plain_text(variable.description),
            "updated_at": variable.updated_at,
        }
        with self._database.write() as connection:
            lock_space(connection, space_id)
            row = {"space_id": space_id, "secret": secret, "key": variable.key} | changing
            statement = insert_into(connection, variables).values(row)
            connection.execute(statement.on_conflict_do_update(index_elements=_VARIABLE_KEY, set_=changing))

    def delete_variable(self, space_id: str, key: str, *, secret: bool) -> bool:
        mine = (variables.c.space_id == space_id, variables.c.key == key, variables.c.secret.is_(secret))
        with self._database.write() as connection:
            return bool(connection.execute(delete(variables).where(*mine)).rowcount)


_VARIABLE_KEY = ("space_id", "secret", "key")


def column_values(row: RowMapping, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What to write for `fields` of the Space in `row`; the text that searches look at follows the card."""
    unknown = fields.keys() - SETTABLE
    if unknown:
        raise Bug(f"These fields of a Space cannot be set: {', '.join(sorted(unknown))}.")
    values = dict(fields)
    if "problem" in values:
        values["problem"] = problem_to_json(values["problem"])
    if "card" in values:
        values["card"] = plain_json(values["card"])
        title = str(values["card"].get("title") or row["name"])[:200]
        values["search_text"] = search_text(SpaceName(row["owner"], row["name"]), title)
    return values


def change_space(connection: Connection, row: RowMapping, values: Mapping[str, Any]) -> Space:
    """Write `values` to the Space in `row`; the Space after it."""
    if not values:
        return to_space(row)
    statement = update(spaces).where(spaces.c.id == row["id"]).values(values).returning(spaces)
    return to_space(connection.execute(statement).mappings().one())


def _named(name: SpaceName) -> tuple[ColumnElement[bool], ...]:
    return (spaces.c.owner_key == name.owner.lower(), spaces.c.name_key == name.name.lower())


def _new_row(name: SpaceName, now: float) -> dict[str, Any]:
    return {
        "id": new_id(),
        "owner": name.owner,
        "name": name.name,
        "owner_key": name.owner.lower(),
        "name_key": name.name.lower(),
        "stage": Stage.NO_APP_FILE,
        "stage_since": now,
        "card": {},
        "generation": 0,
        "start_failures": 0,
        "start_not_before": 0.0,
        "last_active_at": 0.0,
        "last_moved_at": 0.0,
        "created_at": now,
        "updated_at": now,
        "search_text": search_text(name, name.name),
    }


def _scopes(
    connection: Connection, visible_to: UserId | None, *, everything: bool, one_owner: bool
) -> list[ColumnElement[bool]]:
    """Conditions that together select what the caller may see; each is one walk along one index."""
    if everything:
        return [true()]
    # One owner's Spaces are found by the owner: hide the column from the planner, which might prefer its index.
    visibility = func.coalesce(spaces.c.visibility, "") if one_owner else spaces.c.visibility
    scopes: list[ColumnElement[bool]] = [visibility == "public"]
    if visible_to is None:
        return scopes
    user = connection.execute(select(users).where(users.c.id == visible_to)).mappings().one_or_none()
    if user is not None and user["is_admin"]:
        return [true()]
    hidden = func.coalesce(spaces.c.visibility, "") != "public"
    scopes.append(and_(hidden, spaces.c.created_by == visible_to))
    if user is not None:
        scopes.append(and_(hidden, spaces.c.owner_key == user["name_key"]))
    return scopes


def _raise_time(column: str) -> Any:
    lower = spaces.c[column] < bindparam("b_at")
    return update(spaces).where(spaces.c.host == bindparam("b_host"), lower).values({column: bindparam("b_at")})
