"""Report of a worker -> revision recorded, or its failure shown."""

import dataclasses
import uuid
from typing import Any

import structlog

from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.plan import BUILD_ATTEMPTS
from orchestrator.domain.space import Build, BuildStatus, Problem, Revision, Space
from orchestrator.flows.collect_garbage import prune_space
from orchestrator.flows.context import Tools
from orchestrator.flows.tell import happen_if_possible, tell
from orchestrator.ports.build_queue import BuildResult, Failure

log = structlog.get_logger()
_EVENTS: dict[str, Event] = {
    Stage.BUILD_ERROR: Event.BUILD_FAILED,
    Stage.CONFIG_ERROR: Event.CONFIG_REFUSED,
    Stage.NO_APP_FILE: Event.APP_FILE_MISSING,
}


def record_build(tools: Tools, space: Space, build: Build, result: BuildResult, *, now: float) -> bool:
    """Record how a build ended; False if it was over already (superseded, cancelled, another worker's)."""
    if result.failure is not None:
        recorded = _record_failure(tools, space, build, result.failure, now=now)
    else:
        recorded = _record_image(tools, space, build, result, now=now)
    if recorded:
        tell(tools, space.id)
    return recorded


def _record_failure(tools: Tools, space: Space, build: Build, failure: Failure, *, now: float) -> bool:
    if failure.retry and build.attempt < BUILD_ATTEMPTS:
        return tools.store.build_requeued(build.id, now=now)
    problem = Problem(failure.code[:100], failure.message[:4000], failure.file, failure.line)
    if not tools.store.build_finished(build.id, BuildStatus.FAILED, now=now, problem=problem):
        return False
    event = _EVENTS.get(failure.stage, Event.BUILD_FAILED)
    happen_if_possible(tools, space, event, f"build failed: {problem.message[:300]}", now=now, problem=problem)
    log.info("build_failed", space=space.full_name, build=build.id, code=problem.code)
    return True


def _record_image(tools: Tools, space: Space, build: Build, result: BuildResult, *, now: float) -> bool:
    assert result.image is not None
    commit = tools.repositories.commit(space.id, build.sha)
    revision = Revision(
        id=uuid.uuid4().hex,
        space_id=space.id,
        sha=build.sha,
        title=commit.title,
        created_at=now,
        build_id=build.id,
        image=dataclasses.asdict(result.image),
        lock=result.lock,
    )
    if not tools.store.build_finished(build.id, BuildStatus.SUCCEEDED, now=now):
        return False
    tools.store.add_revision(revision)
    prune_space(tools, space.id, now=now)
    fields: dict[str, Any] = {
        "revision_id": revision.id,
        "sdk": result.image.sdk,
        "wake_asked_at": None,
        "start_failures": 0,
    }
    happen_if_possible(tools, space, Event.BUILD_SUCCEEDED, f"built {build.sha[:8]}", now=now, **fields)
    took = now - (build.started_at or build.created_at)
    log.info("build_succeeded", space=space.full_name, build=build.id, took_s=round(took, 2))
    return True
