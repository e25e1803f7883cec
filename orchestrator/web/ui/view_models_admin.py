"""What the token page and the administrator's page are made of. The rules are those of `view_models`."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.web.ui.text import Moment
from orchestrator.web.ui.view_models import Badge, Shell


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    id: str
    label: str
    role: str
    created: Moment
    used: Moment | None
    expires: Moment | None


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """A browser that is signed in."""

    id: str
    since: Moment
    token: str
    """Label of the token that it signed in with."""
    role: str
    used: Moment | None
    expires: Moment | None
    is_this: bool
    """Whether it is the one that looks at the page."""


@dataclass(frozen=True, kw_only=True)
class TokensPage:
    shell: Shell
    tokens: Sequence[TokenRow]
    sessions: Sequence[SessionRow]
    base: str


@dataclass(frozen=True, kw_only=True)
class FeatureRow:
    name: str
    state: Badge
    """On, partly or off."""
    meaning: str
    """Why it is off and what that means; empty for most that are on."""


@dataclass(frozen=True, kw_only=True)
class StageCount:
    badge: Badge
    stage: str
    count: int


@dataclass(frozen=True, kw_only=True)
class GatewayRow:
    id: str
    acked: int
    seen: Moment


@dataclass(frozen=True, kw_only=True)
class QueueRow:
    space: str
    path: str
    outcome: Badge
    phase: str
    asked: Moment


@dataclass(frozen=True, kw_only=True)
class AttentionRow:
    """A Space that is an error."""

    space: str
    path: str
    badge: Badge
    message: str
    since: Moment


@dataclass(frozen=True, kw_only=True)
class UserRow:
    name: str
    full_name: str
    is_admin: bool
    created: Moment
    is_self: bool


@dataclass(frozen=True, kw_only=True)
class AdminPage:
    shell: Shell
    runtime: str
    """Name of what runs the apps."""
    isolation: Badge
    features: Sequence[FeatureRow]
    trouble: str
    """Why the runtime could not be asked; empty if it answered."""
    stages: Sequence[StageCount]
    total: int
    attention: Sequence[AttentionRow]
    workers: int
    """How many answer; -1 if nobody could be asked."""
    gateways: Sequence[GatewayRow]
    queue: Sequence[QueueRow]
    users: Sequence[UserRow]
    versions: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]
    """Settings that an administrator asks for first."""
