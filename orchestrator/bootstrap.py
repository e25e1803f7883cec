"""Chooses and connects the adapters; the only such place.

Every process calls `connect(settings)` with its working folder set to the run folder: sockets have relative names,
so that their paths stay short wherever the data folder lies.
"""

import os
from dataclasses import dataclass

from orchestrator.adapters.database import open_store
from orchestrator.adapters.git import GitRepositories
from orchestrator.adapters.logs import FileLogs
from orchestrator.adapters.queue.celery import CeleryQueue, broker_url
from orchestrator.adapters.runtimes.process import ProcessRuntime
from orchestrator.adapters.signals.redis import RedisSignals
from orchestrator.adapters.static_sites import CaddySites
from orchestrator.adapters.vault import FernetVault
from orchestrator.ports.build_queue import BuildQueue
from orchestrator.ports.logs import Logs
from orchestrator.ports.repositories import Repositories
from orchestrator.ports.runtime import Runtime, StaticSites
from orchestrator.ports.signals import Signals
from orchestrator.ports.store import Store
from orchestrator.ports.vault import Vault
from orchestrator.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The adapters of one process."""

    settings: Settings
    store: Store
    repositories: Repositories
    vault: Vault
    signals: Signals
    logs: Logs
    build_queue: BuildQueue
    runtime: Runtime
    sites: StaticSites


def connect(settings: Settings) -> Parts:
    """Adapters of the one-machine size: SQLite, folders, and the servers that `dormouse up` starts."""
    redis = os.path.relpath(settings.run / "redis.sock")
    return Parts(
        settings=settings,
        store=open_store(settings.data / "dormouse.db"),
        repositories=GitRepositories(settings.data),
        vault=FernetVault(settings.data / "key"),
        signals=RedisSignals(redis),
        logs=FileLogs(settings.data),
        build_queue=CeleryQueue(broker_url(settings.run / "redis.sock")),
        runtime=ProcessRuntime(settings.run / "runner.sock"),
        sites=CaddySites(settings.data),
    )
