"""What nothing refers to any more -> removed."""

import shutil
from pathlib import Path

import structlog

from orchestrator.domain.space import Space
from orchestrator.flows.context import Tools

log = structlog.get_logger()
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


def collect_garbage(tools: Tools, *, now: float) -> int:
    """Remove environments that no revision uses and that are older than KEEP_S; returns how many."""
    used = {str(image.get("environment")) for image in tools.store.images_in_use()}
    root = tools.settings.data / "environments"
    removed = 0
    for folder in root.iterdir() if root.is_dir() else ():
        stale = f"environments/{folder.name}" not in used and now - folder.stat().st_mtime > KEEP_S
        if stale and folder.is_dir() and not folder.is_symlink():
            remove_tree(folder)
            removed += 1
            log.info("environment_removed", environment=folder.name)
    return removed


def remove_tree(folder: Path) -> None:
    """Remove a folder that may hold read-only folders; silent if it is gone."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for inner in folder.rglob("*"):
        if inner.is_dir() and not inner.is_symlink():
            inner.chmod(0o700)
    folder.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
