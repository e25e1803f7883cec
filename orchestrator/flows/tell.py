"""What several flows do after a change: hint those who wait, and take an event that came too late for what it is."""

from typing import Any

import structlog

from orchestrator.domain.lifecycle import Event, ImpossibleTransition
from orchestrator.domain.space import Space
from orchestrator.errors import Missing
from orchestrator.flows.context import Tools
from orchestrator.ports import signals

log = structlog.get_logger()


def tell(tools: Tools, space_id: str) -> None:
    """Hint everybody who waits for this Space: the controller, and those who watch it."""
    tools.signals.send_soon(signals.CONTROLLER, space_id)
    tools.signals.send_soon(signals.space_channel(space_id), "changed")


def happen_if_possible(tools: Tools, space: Space, event: Event, text: str, *, now: float, **fields: Any) -> None:
    """Apply an event about something that went on by itself; the Space may have been paused or deleted meanwhile."""
    try:
        tools.store.happen(space.id, event, now=now, text=text, **fields)
    except (ImpossibleTransition, Missing):
        log.info("event_too_late", space=space.full_name, event_name=event.value)
