"""Spaces, builds and files as the Hub's clients read them. Shapes only: nothing here asks the database."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.space import Build, Problem, Revision, Space, SpaceEvent, Token, User
from orchestrator.ports.repositories import TreeEntry
from orchestrator.settings import Settings
from orchestrator.web.dates import maybe_zulu, zulu
from orchestrator.web.responses import base_url, plain

HARDWARE = "cpu-basic"
_RUNS = frozenset((Stage.RUNNING, Stage.RUNNING_BUILDING, Stage.RUNNING_APP_STARTING))
_AVATAR = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Crect width='8' height='8' fill='%23887'/%3E%3Ccircle cx='4' cy='4' r='2' fill='%23fff'/%3E%3C/svg%3E"
)
EXPANDABLE = (
    "author", "cardData", "createdAt", "datasets", "disabled", "lastModified", "likes", "models", "private", "region",
    "resourceGroup", "runtime", "sdk", "sha", "siblings", "subdomain", "tags", "trendingScore", "usedStorage",
)  # fmt: skip


def space_url(request: Request, full_name: str) -> str:
    """Page and repository of a Space, on the host that the caller asked."""
    return f"{base_url(request)}/spaces/{full_name}"


def subdomain(space: Space) -> str:
    return space.host.partition(".")[0]


def tags(space: Space) -> list[str]:
    """The SDK and the tags of the front matter."""
    given = space.card.get("tags")
    own = [str(tag)[:100] for tag in given if isinstance(tag, str | int)] if isinstance(given, list | tuple) else []
    return list(dict.fromkeys(tag for tag in (space.sdk, *own[:100]) if tag))


def _texts(value: object) -> list[str]:
    return [item[:300] for item in value if isinstance(item, str)][:1000] if isinstance(value, list | tuple) else []


def runtime(settings: Settings, space: Space, *, serving: bool | None = None) -> dict[str, Any]:
    """SpaceRuntime. `serving` says whether something runs where the stage does not (an older revision)."""
    runs = space.stage in _RUNS if serving is None else serving
    sleep_time_s = settings.sleep_time_s if space.sleep_time_s is None else space.sleep_time_s
    shown: dict[str, Any] = {
        "stage": space.stage.value,
        "hardware": {"current": HARDWARE if runs else None, "requested": HARDWARE},
        "storage": None,
        "gcTimeout": sleep_time_s,
        "devMode": False,
        "volumes": [],
        "replicas": {"current": 1 if runs else 0, "requested": 1},
        "domains": [{"domain": space.host, "stage": "READY"}],
        "sha": space.sha,
    }
    if space.problem is not None:
        shown["errorMessage"] = str(space.problem)
    return shown


def space_info(
    settings: Settings, space: Space, *, siblings: Sequence[Mapping[str, Any]] | None = None, sha: str | None = None
) -> dict[str, Any]:
    """SpaceInfo with everything that the row says; `siblings` only where the caller has listed the files."""
    info: dict[str, Any] = {
        "_id": space.id,
        "id": space.full_name,
        "author": space.owner,
        "sha": sha or space.sha,
        "createdAt": zulu(space.created_at),
        "lastModified": zulu(space.updated_at),
        "private": space.visibility != "public",
        "visibility": space.visibility,
        "gated": False,
        "disabled": False,
        "host": settings.host_url(space.host),
        "subdomain": subdomain(space),
        "likes": 0,
        "trendingScore": 0,
        "sdk": space.sdk or None,
        "tags": tags(space),
        "cardData": plain(space.card),
        "title": space.title,
        "models": _texts(space.card.get("models")),
        "datasets": _texts(space.card.get("datasets")),
        "runtime": runtime(settings, space),
    }
    if siblings is not None:
        info["siblings"] = list(siblings)
    return info


def only(info: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """`id` and the properties that `expand` names."""
    return {key: value for key, value in info.items() if key in ("_id", "id") or key in wanted}


def sibling(entry: TreeEntry, *, blobs: bool) -> dict[str, Any]:
    facts = {"size": entry.size, "blobId": entry.oid} if blobs else {}
    return {"rfilename": entry.path, **facts}


def tree_entry(entry: TreeEntry) -> dict[str, Any]:
    """Clients know files and directories. A link is a small file that holds its target; a submodule is listed only."""
    if entry.kind in ("directory", "submodule"):
        return {"type": "directory", "oid": entry.oid, "size": 0, "path": entry.path}
    return {"type": "file", "oid": entry.oid, "size": entry.size, "path": entry.path}


def person(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "user": user.name,
        "fullname": user.full_name or user.name,
        "isAdmin": user.is_admin,
        "createdAt": zulu(user.created_at),
        "avatarUrl": _AVATAR,
    }


def whoami(user: User, token: Token | None, role: str) -> dict[str, Any]:
    return {
        "type": "user",
        **person(user),
        "emailVerified": False,
        "isPro": False,
        "canPay": False,
        "periodEnd": None,
        "orgs": [],
        "auth": {
            "type": "access_token",
            "accessToken": {
                "displayName": token.label if token else "token",
                "role": role,
                "createdAt": zulu(token.created_at) if token else zulu(0),
            },
        },
    }


def overview(user: User, spaces: int) -> dict[str, Any]:
    return {
        **person(user),
        "type": "user",
        "isPro": False,
        "isFollowing": False,
        "orgs": [],
        "numSpaces": spaces,
        "numModels": 0,
        "numDatasets": 0,
        "numDiscussions": 0,
        "numPapers": 0,
        "numUpvotes": 0,
        "numLikes": 0,
        "numFollowing": 0,
        "numFollowers": 0,
    }


def token(row: Token) -> dict[str, Any]:
    return {
        "id": row.id,
        "label": row.label,
        "role": row.role,
        "createdAt": zulu(row.created_at),
        "expiresAt": maybe_zulu(row.expires_at),
        "lastUsedAt": maybe_zulu(row.last_used_at),
    }


def problem(found: Problem | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"code": found.code, "message": found.message, "file": found.file, "line": found.line}


def build(row: Build) -> dict[str, Any]:
    phases = [
        {"name": p.name, "startedAt": zulu(p.started_at), "endedAt": maybe_zulu(p.ended_at), "detail": p.detail}
        for p in row.phases
    ]
    return {
        "id": row.id,
        "sha": row.sha,
        "status": row.status.value,
        "createdAt": zulu(row.created_at),
        "startedAt": maybe_zulu(row.started_at),
        "finishedAt": maybe_zulu(row.finished_at),
        "factory": row.factory,
        "attempt": row.attempt,
        "phases": phases,
        "problem": problem(row.problem),
    }


def revision(row: Revision) -> dict[str, Any]:
    return {
        "id": row.id,
        "sha": row.sha,
        "title": row.title,
        "createdAt": zulu(row.created_at),
        "buildId": row.build_id,
        "lock": row.lock,
    }


def event(row: SpaceEvent) -> dict[str, Any]:
    return {"at": zulu(row.at), "kind": row.kind, "text": row.text}
