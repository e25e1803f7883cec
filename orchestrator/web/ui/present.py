"""From facts to what pages show of a Space: its card in the store, its head, its state. Pure; `now` is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from orchestrator.domain.credentials import with_signature
from orchestrator.domain.lifecycle import MOVING, Stage, plain
from orchestrator.domain.space import Build, BuildStatus, Problem, Space, User
from orchestrator.flows.status import Status
from orchestrator.settings import Settings
from orchestrator.web.ui import text, words
from orchestrator.web.ui.view_models import Badge, Card, Header, ProblemView, PublishHelp, StatusView

HINTS = {"asleep": "wakes on a visit", "error": "needs its owner", "busy": "ready in a moment", "off": "", "ok": ""}


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who looks at a Space, and from where."""

    may_write: bool
    base: str
    """Address of this installation as the viewer's browser writes it."""


def space_path(owner: str, name: str) -> str:
    """Path of a Space's page."""
    return f"/spaces/{quote(owner, safe='')}/{quote(name, safe='')}"


def app_url(settings: Settings, space: Space) -> str:
    """Address of the app, with the first path that its front matter asks for."""
    base_path = space.card.get("base_path")
    start = base_path if isinstance(base_path, str) and base_path.startswith("/") and len(base_path) <= 500 else "/"
    return settings.host_url(space.host) + quote(start, safe="/?=&%-._~+,;:@")


def card(space: Space, *, serving: bool, now: float) -> Card:
    """A Space as the store shows it."""
    start, end = text.gradient(space.card, space.full_name)
    found = badges(space, serving=serving)
    return Card(
        path=space_path(space.owner, space.name),
        title=text.tidy(space.title) or space.name,
        full_name=space.full_name,
        owner=space.owner,
        description=text.tidy(space.card.get("short_description"), 160),
        emoji=text.emoji(space.card, space.title),
        colour_from=start,
        colour_to=end,
        sdk=words.SDKS.get(space.sdk, text.tidy(space.sdk, 20)),
        badges=found,
        hint=HINTS[found[0].tone],
        updated=text.moment(space.updated_at, now),
    )


def badges(space: Space, *, serving: bool) -> tuple[Badge, ...]:
    """One badge, or two where an older version serves or sleeps and the newest commit has a problem."""
    found = words.badges(space.stage, serving=serving, problem=space.problem is not None)
    return tuple(Badge(label=label, tone=tone) for label, tone in found)


def header(
    settings: Settings,
    space: Space,
    status: Status,
    build: Build | None,
    *,
    viewer: Viewer,
    tab: str,
    now: float,
    signature: str = "",
) -> Header:
    """The head of a Space's pages; `build` is its newest build, `signature` opens the app of a private Space."""
    start, end = text.gradient(space.card, space.full_name)
    path, address = space_path(space.owner, space.name), app_url(settings, space)
    return Header(
        path=path,
        api=f"/api{path}",
        owner=space.owner,
        name=space.name,
        title=text.tidy(space.title) or space.name,
        emoji=text.emoji(space.card, space.title),
        colour_from=start,
        colour_to=end,
        description=text.tidy(space.card.get("short_description"), 200),
        sdk=words.SDKS.get(space.sdk, text.tidy(space.sdk, 20)),
        is_private=space.visibility != "public",
        app_url=with_signature(address, signature) if signature else address,
        tab=tab,
        may_write=viewer.may_write,
        status=status_view(space, status, build, writes=viewer.may_write, now=now),
    )


def status_view(space: Space, status: Status, build: Build | None, *, writes: bool, now: float) -> StatusView:
    """The part of a Space's pages that changes by itself."""
    stage = status.stage
    waits = plain(stage) in (Stage.BUILDING, Stage.APP_STARTING)
    building = build is not None and build.status in (BuildStatus.QUEUED, BuildStatus.RUNNING)
    path = space_path(space.owner, space.name)
    return StatusView(
        stage=stage.value,
        badges=badges(space, serving=status.serving),
        headline=words.headline(stage, serving=status.serving),
        next_step=words.next_step(stage, serving=status.serving, may_write=writes),
        is_moving=stage in MOVING or (stage is Stage.RUNNING and not status.serving),
        frame=words.frame_shown(stage, serving=status.serving),
        phase=words.phase_words(status.phase) if waits else "",
        since=text.maybe_moment(status.since, now),
        detail=text.tidy(status.detail, 400) if waits else "",
        eta=_time_left(status),
        place=status.place or 0,
        build_path=f"{path}/builds/{quote(build.id, safe='')}" if build and building else "",
        problem=problem_view(space.problem, path, space.sha or "main"),
    )


def _time_left(status: Status) -> str:
    if status.eta_s is None:
        return ""
    if status.stage is Stage.SLEEPING:
        return f"Earlier wakes took about {text.duration(status.eta_s)}."
    left = status.eta_s - status.elapsed_s
    usual = text.duration(status.eta_s)
    return f"Usually ready after {usual}." if left > 0 else f"Usually ready after {usual}; it takes longer this time."


def problem_view(problem: Problem | None, path: str, revision: str) -> ProblemView | None:
    """A problem with a link to the place it names."""
    if problem is None:
        return None
    message = "\n".join(text.log_line(line, 1000) for line in problem.message[:8000].splitlines()[:40])
    if not problem.file:
        return ProblemView(message=message, place="", link="")
    line = problem.line or 0
    link = f"{path}/blob/{quote(revision, safe='')}/{quote(problem.file)}" + (f"#L{line}" if line else "")
    place = text.tidy(problem.file) + (f":{line}" if line else "")
    return ProblemView(message=message, place=place, link=link)


def publish_help(base: str, owner: str = "OWNER", name: str = "NAME") -> PublishHelp:
    """Commands that publish into `owner/name`."""
    address = f"{base}/spaces/{owner}/{name}"
    scheme, _, rest = address.partition("://")
    known = owner != "OWNER"
    return PublishHelp(
        base=base,
        push=f"dormouse push DIR --name {owner}/{name}" if known else "dormouse push DIR",
        remote=f"git remote add dormouse {scheme}://{owner}@{rest}",
        git_push="git push dormouse HEAD:main",
        clone=f"git clone {address}",
    )


def owners(user: User, users: Sequence[User]) -> tuple[str, ...]:
    """Names under which a user may create a Space, the own one first."""
    others = sorted(other.name for other in users if other.name != user.name) if user.is_admin else []
    return (user.name, *others)
