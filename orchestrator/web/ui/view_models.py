"""What each page is made of: one frozen dataclass per page, whose fields are all that its template may use.

Templates get exactly one name, `page`, and hold loops and conditions only; a test compares the fields with what the
templates ask for. Values are plain text: the templates escape them. Nothing here computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.web.ui.text import Moment


@dataclass(frozen=True, kw_only=True)
class Shell:
    """What every page has around it."""

    title: str
    """Of the browser's tab."""
    user_name: str
    """Name of who is signed in; empty for a visitor."""
    is_admin: bool
    csrf: str
    """Token that every form and every action carries."""
    section: str
    """Entry of the main navigation that the page belongs to: store, new, tokens, admin or empty."""
    here: str
    """Path to come back to after signing in."""
    now: int
    """The server's time, so that ages are right in a browser whose clock is not."""
    assets: str
    """Version in the addresses of style sheet and script, so that they may be cached for ever."""


@dataclass(frozen=True, kw_only=True)
class Badge:
    label: str
    tone: str
    """ok, busy, asleep, error or off."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A Space in the store."""

    path: str
    title: str
    full_name: str
    owner: str
    description: str
    emoji: str
    colour_from: str
    colour_to: str
    sdk: str
    badges: Sequence[Badge]
    hint: str
    """What the stage means for a visitor, in a few words."""
    updated: Moment


@dataclass(frozen=True, kw_only=True)
class PublishHelp:
    """Commands that bring an app here, complete enough to be copied."""

    base: str
    """Address of this installation."""
    push: str
    """Command of our own command line."""
    remote: str
    """Command that adds the git remote."""
    git_push: str
    """Command that pushes to it."""
    clone: str


@dataclass(frozen=True, kw_only=True)
class StorePage:
    shell: Shell
    cards: Sequence[Card]
    search: str
    owner: str
    """Only this owner's Spaces are listed; empty for all."""
    next_page: str
    """Address of the next page; empty on the last."""
    is_first: bool
    help: PublishHelp


@dataclass(frozen=True, kw_only=True)
class LoginPage:
    shell: Shell
    next_path: str
    """Where to go after signing in; a path of ours."""
    message: str
    """Why the last try failed."""


@dataclass(frozen=True, kw_only=True)
class NewPage:
    shell: Shell
    owners: Sequence[str]
    sdks: Sequence[tuple[str, str]]
    """(value, words)."""
    help: PublishHelp


@dataclass(frozen=True, kw_only=True)
class ProblemView:
    """What is wrong with the newest commit, where, and what to write."""

    message: str
    place: str
    """file:line; empty where the problem has no place."""
    link: str
    """Address of that place in the file view."""


@dataclass(frozen=True, kw_only=True)
class StatusView:
    """State of a Space: the part of its pages that changes by itself."""

    stage: str
    """Name of the stage in the Hub API."""
    badges: Sequence[Badge]
    headline: str
    next_step: str
    is_moving: bool
    """The stage ends by itself: look again soon."""
    frame: bool
    """Whether the app's own address is shown, rather than an explanation."""
    phase: str
    """What is being waited for; empty if nothing is."""
    since: Moment | None
    detail: str
    eta: str
    """Expected length of the wait in words; empty if unknown."""
    place: int
    """Place in line; 0 where there is no line."""
    build_path: str
    """Page of the build in progress; empty if there is none."""
    problem: ProblemView | None


@dataclass(frozen=True, kw_only=True)
class Header:
    """The head of every page of a Space."""

    path: str
    """/spaces/owner/name"""
    api: str
    """/api/spaces/owner/name"""
    owner: str
    name: str
    title: str
    emoji: str
    colour_from: str
    colour_to: str
    description: str
    sdk: str
    is_private: bool
    app_url: str
    """Address of the app on its own host."""
    tab: str
    """app, logs, files, builds or settings."""
    may_write: bool
    status: StatusView


@dataclass(frozen=True, kw_only=True)
class AppPage:
    shell: Shell
    space: Header
    is_new: bool
    """Nothing has been published yet: show how."""
    help: PublishHelp


@dataclass(frozen=True, kw_only=True)
class LogsPage:
    shell: Shell
    space: Header
    kind: str
    """build or run."""
    lines: Sequence[str]
    """The newest lines, for those who have no script."""
    failure: str
    """The last crash or failed start, in words; empty if there was none."""
    failed: Moment | None
    stream: str
    """Address of the log as it grows."""
    build_api: str
    """Address that says whether it can still grow; empty for the log of the app, which always can."""
    download: str


@dataclass(frozen=True, kw_only=True)
class BuildRow:
    path: str
    sha: str
    """Short commit id."""
    commit_title: str
    outcome: Badge
    asked: Moment
    took: str
    factory: bool


@dataclass(frozen=True, kw_only=True)
class RevisionRow:
    sha: str
    title: str
    created: Moment
    files_path: str
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class EventRow:
    at: Moment
    text: str


@dataclass(frozen=True, kw_only=True)
class BuildsPage:
    shell: Shell
    space: Header
    builds: Sequence[BuildRow]
    revisions: Sequence[RevisionRow]
    events: Sequence[EventRow]
    """Empty for those who may not change the Space."""


@dataclass(frozen=True, kw_only=True)
class PhaseRow:
    name: str
    words: str
    started: Moment
    took: str
    """Empty while it runs."""
    detail: str
    state: str
    """done, now or failed."""


@dataclass(frozen=True, kw_only=True)
class BuildPage:
    shell: Shell
    space: Header
    build: BuildRow
    is_live: bool
    """It has not ended: phases and log go on."""
    waits: str
    """Why it has not begun; empty once it has."""
    phases: Sequence[PhaseRow]
    problem: ProblemView | None
    lines: Sequence[str]
    """The newest lines."""
    stream: str
    """Address of the log as it grows."""
    build_api: str
    """Address that says whether it can still grow."""
    download: str
    """Empty for those who may not read the log."""


@dataclass(frozen=True, kw_only=True)
class FileRow:
    name: str
    path: str
    kind: str
    """file, directory, symlink or submodule."""
    size: str


@dataclass(frozen=True, kw_only=True)
class Crumb:
    name: str
    path: str
    """Empty for the last one."""


@dataclass(frozen=True, kw_only=True)
class CommitView:
    sha: str
    short: str
    title: str
    author: str
    at: Moment


@dataclass(frozen=True, kw_only=True)
class TreePage:
    shell: Shell
    space: Header
    crumbs: Sequence[Crumb]
    commit: CommitView | None
    """None for a repository without a commit."""
    rows: Sequence[FileRow]
    cut: int
    """How many entries are not shown."""
    help: PublishHelp


@dataclass(frozen=True, kw_only=True)
class BlobPage:
    shell: Shell
    space: Header
    crumbs: Sequence[Crumb]
    commit: CommitView
    size: str
    lines: Sequence[str]
    notice: str
    """Why the content is not, or not wholly, shown; empty if it is."""
    download: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    value: str
    label: str
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class VariableRow:
    key: str
    value: str
    """Always empty for a secret."""
    description: str
    updated: Moment | None


@dataclass(frozen=True, kw_only=True)
class SettingsPage:
    shell: Shell
    space: Header
    sleep_choices: Sequence[Choice]
    sleep_custom: str
    """Seconds, where no choice fits; otherwise empty."""
    sleep_default: str
    """The installation's sleep time in words."""
    sleep_is_default: bool
    """This Space has none of its own."""
    variables: Sequence[VariableRow]
    secrets: Sequence[VariableRow]
    can_pause: bool
    can_restart: bool
    can_sleep: bool
    can_wake: bool
    can_rebuild: bool
    is_static: bool
    visibility: str
    host: str
    help: PublishHelp


@dataclass(frozen=True, kw_only=True)
class ErrorPage:
    shell: Shell
    status: int
    headline: str
    message: str
    next_step: str
    offer_login: bool


@dataclass(frozen=True, kw_only=True)
class StatusFragment:
    """The status part alone, fetched when something has changed."""

    space: Header
