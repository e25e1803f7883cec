"""What the web processes work with: made once by `bootstrap`, handed to `create_app`, never changed.

It has everything that flows ask for (`flows.context.Tools`), so flows take it as it is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from orchestrator.ports.build_queue import BuildQueue
from orchestrator.ports.logs import Logs
from orchestrator.ports.repositories import Repositories
from orchestrator.ports.runtime import Runtime
from orchestrator.ports.signals import Signals
from orchestrator.ports.store import Store
from orchestrator.ports.vault import Vault
from orchestrator.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Context:
    """The adapters and the clock."""

    settings: Settings
    store: Store
    repositories: Repositories
    logs: Logs
    signals: Signals
    vault: Vault
    build_queue: BuildQueue
    runtime: Runtime | None
    """None where this process cannot reach it."""
    clock: Callable[[], float] = time.time
    """Seconds since 1970."""


def context_of(request: Request) -> Context:
    """The context of the app that serves `request`."""
    context: Context = request.app.state.context
    return context
