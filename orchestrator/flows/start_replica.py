"""Revision, admitted -> a replica is starting. A static Space has no replica: its snapshot is published."""

import asyncio
import uuid
from collections.abc import Mapping

from orchestrator.domain.names import ReplicaId
from orchestrator.domain.space import Replica, ReplicaState, Revision, Space
from orchestrator.errors import Bug
from orchestrator.flows.collect_garbage import RUN_LOGS_KEPT
from orchestrator.flows.context import Tools
from orchestrator.ports.runtime import ReplicaSpec, Runtime

CPU_BASIC = {"ACCELERATOR": "none", "CPU_CORES": "2"}


async def start_replica(tools: Tools, runtime: Runtime, space: Space, *, now: float) -> Replica | None:
    """Record a replica of the Space's revision and have the runtime start it.

    The row comes first, and a Space can have one starting replica only, so that a second caller, or the same one
    after a crash, starts nothing twice. None if somebody else was first.
    """
    replica = new_replica(space, now=now)
    if not await asyncio.to_thread(tools.store.add_replica, replica):
        return None
    await resume_start(tools, runtime, space, replica)
    # Only now: a visitor waits for the start, nobody for this.
    await asyncio.to_thread(tools.logs.prune, space.id, keep=RUN_LOGS_KEPT, build_ids=())
    return replica


def new_replica(space: Space, *, now: float) -> Replica:
    """A starting replica of the revision that the Space runs."""
    return Replica(
        id=ReplicaId(f"{space.id[:8]}-{uuid.uuid4().hex[:10]}"),
        space_id=space.id,
        revision_id=space.revision_id or "",
        state=ReplicaState.STARTING,
        generation=space.generation,
        started_at=now,
    )


async def resume_start(tools: Tools, runtime: Runtime, space: Space, replica: Replica) -> None:
    """Hand the recorded replica to the runtime (again). Raises Unavailable."""
    spec = await asyncio.to_thread(_spec, tools, space, replica)
    await runtime.start(spec)


def load_revision(tools: Tools, revision_id: str) -> Revision:
    revision = tools.store.revision(revision_id)
    if revision is None:
        raise Bug(f"the revision {revision_id} is not recorded")
    return revision


def _spec(tools: Tools, space: Space, replica: Replica) -> ReplicaSpec:
    settings, image = tools.settings, load_revision(tools, replica.revision_id).image
    return ReplicaSpec(
        replica_id=replica.id,
        space_id=space.id,
        space=space.full_name,
        image=image,
        environment=environment(tools, space),
        memory_mb=settings.memory_mb,
        processes_max=settings.processes_max,
        files_max=settings.files_max,
        disk_mb=settings.disk_mb,
        egress=settings.egress,
        start_timeout_s=float(image.get("start_timeout_s") or settings.start_timeout_s),
    )


def environment(tools: Tools, space: Space) -> Mapping[str, str]:
    """Variables of a running Space: the author's own, then the platform's, which cannot be overridden.

    The names are those that the Hub injects.
    """
    own = {item.key: item.value for item in tools.store.variables(space.id)}
    own |= {item.key: tools.vault.open(item.value) for item in tools.store.secrets(space.id)}
    settings = tools.settings
    port = "" if settings.port == 80 else f":{settings.port}"
    return own | {
        "SYSTEM": "spaces",
        "SPACE_ID": space.full_name,
        "SPACE_HOST": f"{space.host}{port}",
        "SPACE_AUTHOR_NAME": space.owner,
        "SPACE_REPO_NAME": space.name,
        "SPACE_TITLE": space.title,
        "SPACE_CREATOR_USER_ID": space.created_by,
        "HF_ENDPOINT": f"http://dormouse.internal:{settings.port}",
        "MEMORY": f"{settings.memory_mb}Mi",
        **CPU_BASIC,
    }
