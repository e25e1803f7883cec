"""From facts to what the settings, token and admin pages show. Pure; `now` is given."""

import re
from collections.abc import Mapping, Sequence

from orchestrator.domain.lifecycle import Stage, plain
from orchestrator.domain.space import NEVER, Build, Gateway, Space, Token, User, Variable
from orchestrator.ports.runtime import Isolation
from orchestrator.settings import Settings
from orchestrator.web.ui import text, words
from orchestrator.web.ui.present import space_path
from orchestrator.web.ui.present_builds import outcome
from orchestrator.web.ui.view_models import Badge, Choice, VariableRow
from orchestrator.web.ui.view_models_admin import (
    AttentionRow,
    FeatureRow,
    GatewayRow,
    QueueRow,
    SessionRow,
    StageCount,
    TokenRow,
    UserRow,
)

SLEEP_CHOICES = ((300, "5 minutes"), (3600, "1 hour"), (8 * 3600, "8 hours"), (48 * 3600, "48 hours"), (NEVER, "Never"))
_ON = re.compile(r"on\b", re.IGNORECASE)
_OFF = re.compile(r"(off|not available)\b", re.IGNORECASE)
_ON_OR_OFF = re.compile(r"(on|off)\b[\s:,.;]*", re.IGNORECASE)
_LEVELS = {"full": ("Full", "ok"), "reduced": ("Reduced", "busy"), "none": ("None", "error")}


def sleep_words(seconds: int) -> str:
    return "never" if seconds == NEVER else f"after {text.duration(seconds)} without a visitor"


def sleep_default(settings: Settings) -> str:
    """The installation's sleep time, as short as a choice shows it."""
    return "never" if settings.sleep_time_s == NEVER else text.duration(settings.sleep_time_s)


def sleep_choices(space: Space) -> tuple[Choice, ...]:
    """The usual sleep times; the Space's own is marked."""
    return tuple(
        Choice(value=str(seconds), label=label, chosen=space.sleep_time_s == seconds)
        for seconds, label in SLEEP_CHOICES
    )


def sleep_custom(space: Space) -> str:
    """The Space's own sleep time, where it is none of the usual ones."""
    usual = space.sleep_time_s is None or space.sleep_time_s in dict(SLEEP_CHOICES)
    return "" if usual else str(space.sleep_time_s)


def variable_rows(variables: Sequence[Variable], *, secret: bool, now: float) -> tuple[VariableRow, ...]:
    """Rows by name. A secret's value never gets as far as a page, not even encrypted."""
    return tuple(
        VariableRow(
            key=text.tidy(variable.key),
            value="" if secret else variable.value,
            description=text.tidy(variable.description, 300),
            updated=text.maybe_moment(variable.updated_at, now),
        )
        for variable in sorted(variables, key=lambda variable: variable.key)
    )


def token_rows(tokens: Sequence[Token], *, now: float) -> tuple[TokenRow, ...]:
    return tuple(
        TokenRow(
            id=token.id,
            label=_label(token),
            role=token.role,
            created=text.moment(token.created_at, now),
            used=text.maybe_moment(token.last_used_at, now),
            expires=text.maybe_moment(token.expires_at, now),
        )
        for token in sorted(tokens, key=lambda token: -token.created_at)
        if not token.is_session
    )


def session_rows(tokens: Sequence[Token], *, current: str, now: float) -> tuple[SessionRow, ...]:
    """The browsers that are signed in; `current` is the id of the one that asks."""
    labels = {token.id: _label(token) for token in tokens}
    return tuple(
        SessionRow(
            id=token.id,
            since=text.moment(token.created_at, now),
            token=labels.get(token.parent_id or "", "a token that is gone"),
            role=token.role,
            used=text.maybe_moment(token.last_used_at, now),
            expires=text.maybe_moment(token.expires_at, now),
            is_this=token.id == current,
        )
        for token in sorted(tokens, key=lambda token: -token.created_at)
        if token.is_session
    )


def _label(token: Token) -> str:
    return text.tidy(token.label) or "(no name)"


def isolation_badge(isolation: Isolation | None) -> Badge:
    label, tone = _LEVELS.get(isolation.level, (isolation.level, "error")) if isolation else ("Unknown", "off")
    return Badge(label=label, tone=tone)


def feature_rows(isolation: Isolation | None) -> tuple[FeatureRow, ...]:
    """What separates Spaces; what is not wholly on comes first, because somebody has to read it."""
    if isolation is None:
        return ()
    rows = [
        FeatureRow(name=name.replace("_", " "), state=_feature_badge(state), meaning=_meaning(state))
        for name, state in isolation.features.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.state.tone == "ok", row.name)))


def _feature_badge(state: str) -> Badge:
    if _ON.match(state):
        return Badge(label="On", tone="ok")
    return Badge(label="Off", tone="error") if _OFF.match(state) else Badge(label="Partly", tone="busy")


def _meaning(state: str) -> str:
    rest = text.tidy(_ON_OR_OFF.sub("", state, count=1) if _ON_OR_OFF.match(state) else state, 600)
    return rest[:1].upper() + rest[1:]


def stage_counts(counts: Mapping[Stage, int]) -> tuple[StageCount, ...]:
    """Every stage that has a Space, in the order of the table of stages."""
    return tuple(
        StageCount(
            badge=Badge(label=words.WORDS[stage].label, tone=words.WORDS[stage].tone),
            stage=stage.value,
            count=counts[stage],
        )
        for stage in Stage
        if counts.get(stage)
    )


def attention_rows(spaces: Sequence[Space], *, limit: int, now: float) -> tuple[AttentionRow, ...]:
    newest = sorted(spaces, key=lambda space: -space.stage_since)[:limit]
    return tuple(
        AttentionRow(
            space=space.full_name,
            path=space_path(space.owner, space.name),
            badge=Badge(label=words.WORDS[space.stage].label, tone=words.WORDS[space.stage].tone),
            message=text.tidy(str(space.problem or ""), 200),
            since=text.moment(space.stage_since, now),
        )
        for space in newest
    )


def gateway_rows(gateways: Sequence[Gateway], *, now: float) -> tuple[GatewayRow, ...]:
    return tuple(
        GatewayRow(id=gateway.id, acked=gateway.acked, seen=text.moment(gateway.seen_at, now)) for gateway in gateways
    )


def queue_rows(builds: Sequence[tuple[Build, Space]], *, now: float) -> tuple[QueueRow, ...]:
    return tuple(
        QueueRow(
            space=space.full_name,
            path=f"{space_path(space.owner, space.name)}/builds/{build.id}",
            outcome=outcome(build),
            phase=words.phase_words(build.phases[-1].name if build.phases else "queued"),
            asked=text.moment(build.created_at, now),
        )
        for build, space in builds
    )


def user_rows(users: Sequence[User], viewer: User, *, now: float) -> tuple[UserRow, ...]:
    return tuple(
        UserRow(
            name=user.name,
            full_name=text.tidy(user.full_name),
            is_admin=user.is_admin,
            created=text.moment(user.created_at, now),
            is_self=user.id == viewer.id,
        )
        for user in sorted(users, key=lambda user: user.name)
    )


def facts(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Settings that decide how the installation behaves towards its Spaces."""
    return (
        ("Pages", settings.public_url),
        ("Spaces", f"below {settings.spaces_domain}, port {settings.port}"),
        ("Sleep", sleep_words(settings.sleep_time_s)),
        ("Memory of a replica", text.size(settings.memory_mb << 20)),
        ("Processes of a replica", str(settings.processes_max)),
        ("Way out of a Space", settings.egress),
        ("Builds at the same time, per worker", str(settings.build_concurrency)),
    )


def allowed_actions(space: Space, *, serving: bool) -> dict[str, bool]:
    """Which buttons make sense in the Space's stage; the API has the last word."""
    is_static, stage = space.sdk == "static", space.stage
    return {
        "can_pause": not is_static and stage not in (Stage.PAUSED, Stage.DELETING),
        "can_restart": not is_static and stage is not Stage.DELETING and space.sha is not None,
        "can_sleep": not is_static and serving and plain(stage) not in (Stage.BUILDING, Stage.APP_STARTING),
        "can_wake": stage is Stage.SLEEPING,
        "can_rebuild": space.sha is not None and stage is not Stage.DELETING,
    }
