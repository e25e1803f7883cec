"""What nothing refers to any more -> removed."""

import structlog

from builder.sandbox.trees import remove_tree
from orchestrator.domain.space import Space
from orchestrator.flows.context import Tools

log = structlog.get_logger()
BUILDS_KEPT, RUN_LOGS_KEPT = 30, 10
KEEP_S = 3600.0
"""Younger files are left alone: a build that is not recorded yet may have made them."""


def remove_space(tools: Tools, space: Space) -> None:
    """Remove a deleted Space's repository, snapshots, logs and at last its row; repeatable at every step."""
    builds = [build.id for build in tools.store.builds(space.id, limit=10_000)]
    tools.repositories.delete(space.id)
    tools.logs.delete_space(space.id, builds)
    for part in ("snapshots", "cache/locks/spaces"):
        remove_tree(tools.settings.data / part / space.id)
    tools.store.forget_space(space.id)
    log.info("space_removed", space=space.full_name)


def prune_space(tools: Tools, space_id: str, *, now: float) -> None:
    """Remove what a Space's older revisions leave: snapshots that no kept revision names, old builds and logs.

    Called for one Space when it has a new revision, so that nothing has to look at all Spaces.
    """
    used = {str(revision.image.get("snapshot")) for revision in tools.store.revisions(space_id, limit=1000)}
    root = tools.settings.data / "snapshots" / space_id
    for folder in root.iterdir() if root.is_dir() else ():
        named = f"snapshots/{space_id}/{folder.name}" in used or folder.name.startswith(".")
        # The modification time is that of the commit; the change time says when the snapshot was made.
        if not named and now - folder.stat().st_ctime > KEEP_S:
            remove_tree(folder)
    old = tools.store.forget_old_builds(space_id, keep=BUILDS_KEPT)
    tools.logs.prune(space_id, keep=RUN_LOGS_KEPT, build_ids=old)


def collect_garbage(tools: Tools, *, now: float) -> int:
    """Remove environments that no revision uses and that are older than KEEP_S; returns how many."""
    used = {str(image.get("environment")) for image in tools.store.images_in_use()}
    root = tools.settings.data / "environments"
    removed = 0
    for folder in root.iterdir() if root.is_dir() else ():
        stale = f"environments/{folder.name}" not in used and now - folder.stat().st_mtime > KEEP_S
        if stale and folder.is_dir() and not folder.is_symlink():
            gone = remove_tree(folder)
            removed += gone
            say = log.info if gone else log.warning
            say("environment_removed" if gone else "environment_not_removed", environment=folder.name)
    return removed
