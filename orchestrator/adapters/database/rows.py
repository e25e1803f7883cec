"""Rows become values here, and values become what a row can hold.

What the database holds comes from README files and error messages of strangers, so texts are cut to a length and
cleansed of what PostgreSQL or UTF-8 cannot carry, and mappings are reduced to plain JSON: YAML also knows dates,
infinities and keys that are no strings.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import RowMapping

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import SpaceName
from orchestrator.domain.space import (
    Build,
    BuildStatus,
    Gateway,
    PhaseTime,
    Problem,
    Replica,
    ReplicaState,
    Revision,
    Route,
    RouteMode,
    Space,
    SpaceEvent,
    Token,
    User,
    Variable,
)

T = TypeVar("T")
_KINDS: tuple[type[Any], ...] = (Space, Build, Revision, Replica, Route, Gateway, User, Token, Variable, SpaceEvent)
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}
_DEPTH_MAX = 32


def plain_text(text: str, limit: int = 4000) -> str:
    """`text` without NUL characters and lone surrogates, cut at `limit` characters."""
    return text[:limit].replace("\0", "").encode(errors="replace").decode()


def plain_json(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can hold it: other kinds become their text, what is no finite number becomes null."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth < _DEPTH_MAX and isinstance(value, Mapping):
        return {plain_text(str(key)): plain_json(item, depth + 1) for key, item in value.items()}
    if depth < _DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
        return [plain_json(item, depth + 1) for item in value]
    return plain_text(str(value), limit=1 << 20)


def problem_to_json(problem: Problem | None) -> dict[str, Any] | None:
    if problem is None:
        return None
    file = None if problem.file is None else plain_text(problem.file)
    return {"code": problem.code, "message": plain_text(problem.message), "file": file, "line": problem.line}


def problem_from_json(value: Mapping[str, Any] | None) -> Problem | None:
    return None if value is None else Problem(**value)


def phases_to_json(phases: tuple[PhaseTime, ...]) -> list[dict[str, Any]]:
    return [
        {"name": p.name, "started_at": p.started_at, "ended_at": p.ended_at, "detail": plain_text(p.detail)}
        for p in phases
    ]


def search_text(name: SpaceName, title: str) -> str:
    return plain_text(f"{name} {title}").lower()


def _pick(kind: type[T], row: RowMapping, **changed: Any) -> T:
    """An instance of the dataclass `kind` from the columns that carry its fields' names."""
    values = {name: row[name] for name in _FIELDS[kind] if name not in changed}
    return kind(**values, **changed)


def to_space(row: RowMapping) -> Space:
    return _pick(Space, row, stage=Stage(row["stage"]), problem=problem_from_json(row["problem"]))


def to_build(row: RowMapping) -> Build:
    return _pick(
        Build,
        row,
        status=BuildStatus(row["status"]),
        phases=tuple(PhaseTime(**phase) for phase in row["phases"]),
        problem=problem_from_json(row["problem"]),
    )


def to_revision(row: RowMapping) -> Revision:
    return _pick(Revision, row)


def to_replica(row: RowMapping) -> Replica:
    return _pick(Replica, row, state=ReplicaState(row["state"]))


def to_route(row: RowMapping) -> Route:
    """The visibility is the Space's; of a Space that is gone nobody may see anything."""
    return _pick(Route, row, mode=RouteMode(row["mode"]), private=row["visibility"] != "public")


def to_gateway(row: RowMapping) -> Gateway:
    return _pick(Gateway, row)


def to_user(row: RowMapping) -> User:
    return _pick(User, row)


def to_token(row: RowMapping) -> Token:
    return _pick(Token, row)


def to_variable(row: RowMapping) -> Variable:
    return _pick(Variable, row)


def to_event(row: RowMapping) -> SpaceEvent:
    return _pick(SpaceEvent, row)
