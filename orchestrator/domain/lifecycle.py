"""Stages of a Space, the events that change them, and what a visitor gets in each: the only such table.

Rules of this file:

1. The stage speaks of the *newest commit* and of what its author waits for. The names are those of the Hub, because
   clients wait on them. Whether an older revision serves meanwhile is a second, separate fact (`serving`).
2. An event that is not in the table for a stage is a bug of the caller: `advance` raises ImpossibleTransition.

Theory of operation. A commit takes a Space to BUILDING (or to CONFIG_ERROR / NO_APP_FILE, if nothing can be made of
it), a finished build to APP_STARTING, an answering replica to RUNNING. While an earlier revision serves, the first two
are called RUNNING_BUILDING and RUNNING_APP_STARTING; that lifting is done in one place (`_lift`), so that the table
need not repeat itself. A failure of the newest commit never stops the revision that serves. Idleness takes any stage
in which something serves (except while a newer one is on its way) to SLEEPING, a visit takes SLEEPING, and only it,
to APP_STARTING. PAUSED ends by its owner's restart alone, DELETING by nothing.

`docs/state-machine.md` is generated from this table (`make docs`) and compared in the tests.
"""

from enum import StrEnum

from orchestrator.errors import Bug


class Stage(StrEnum):
    """Stage of a Space, in the words of the Hub API."""

    NO_APP_FILE = "NO_APP_FILE"
    CONFIG_ERROR = "CONFIG_ERROR"
    BUILDING = "BUILDING"
    BUILD_ERROR = "BUILD_ERROR"
    APP_STARTING = "APP_STARTING"
    RUNNING = "RUNNING"
    RUNNING_BUILDING = "RUNNING_BUILDING"
    RUNNING_APP_STARTING = "RUNNING_APP_STARTING"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    SLEEPING = "SLEEPING"
    PAUSED = "PAUSED"
    DELETING = "DELETING"


class Event(StrEnum):
    """What can happen to a Space."""

    COMMIT_ACCEPTED = "commit accepted"
    """A usable commit arrived, or a rebuild was asked for: a build is wanted."""
    CONFIG_REFUSED = "configuration refused"
    """The newest commit's configuration cannot be used."""
    APP_FILE_MISSING = "app file missing"
    """The newest commit has nothing to run."""
    BUILD_SUCCEEDED = "build succeeded"
    BUILD_FAILED = "build failed"
    REPLICA_READY = "replica ready"
    """The wanted revision answers."""
    START_FAILED = "start failed"
    """The wanted revision did not come up, within its time and tries."""
    REPLICA_LOST = "replica lost"
    """The serving replica ended by itself."""
    IDLE = "idle"
    """The fenced sleep has gone through: drained and withdrawn."""
    VISITED = "visited"
    """Somebody asked for the app."""
    PAUSE = "pause"
    RESTART = "restart"
    """Start the newest good revision anew."""
    DELETE = "delete"


class ImpossibleTransition(Bug):
    """An event came in a stage in which it cannot."""


S, E = Stage, Event

_Row = dict[Event, Stage | None]
_FROM_ANY: _Row = {
    E.CONFIG_REFUSED: S.CONFIG_ERROR,
    E.APP_FILE_MISSING: S.NO_APP_FILE,
    E.COMMIT_ACCEPTED: S.BUILDING,
    E.RESTART: S.APP_STARTING,
    E.PAUSE: S.PAUSED,
    E.DELETE: S.DELETING,
}
# An older revision serves while the newest commit is an error. Once its replica has gone, for idleness or by a crash,
# the Space sleeps: the next visit wakes the older revision again, and the newest commit's problem stays on record.
_ERROR_WITH_OLDER: _Row = {E.REPLICA_READY: None, E.REPLICA_LOST: S.SLEEPING, E.IDLE: S.SLEEPING, E.BUILD_FAILED: None}

# stage -> event -> new stage; None stays. Stages of the RUNNING_ family appear as the plain ones (see _lift).
TABLE: dict[Stage, _Row] = {
    S.NO_APP_FILE: _FROM_ANY | _ERROR_WITH_OLDER,
    S.CONFIG_ERROR: _FROM_ANY | _ERROR_WITH_OLDER,
    S.BUILD_ERROR: _FROM_ANY | _ERROR_WITH_OLDER,
    S.RUNTIME_ERROR: _FROM_ANY | _ERROR_WITH_OLDER | {E.START_FAILED: None},
    S.BUILDING: _FROM_ANY
    | {
        E.BUILD_SUCCEEDED: S.APP_STARTING,
        E.BUILD_FAILED: S.BUILD_ERROR,
        E.REPLICA_READY: None,
        E.REPLICA_LOST: None,
        E.START_FAILED: None,
    },
    S.APP_STARTING: _FROM_ANY
    | {
        E.BUILD_SUCCEEDED: None,
        E.REPLICA_READY: S.RUNNING,
        E.START_FAILED: S.RUNTIME_ERROR,
        E.REPLICA_LOST: None,
        E.VISITED: None,
    },
    S.RUNNING: _FROM_ANY | {E.REPLICA_READY: None, E.REPLICA_LOST: S.APP_STARTING, E.IDLE: S.SLEEPING, E.VISITED: None},
    S.SLEEPING: _FROM_ANY | {E.VISITED: S.APP_STARTING, E.REPLICA_LOST: None},
    S.PAUSED: {
        E.COMMIT_ACCEPTED: None,
        E.CONFIG_REFUSED: None,
        E.APP_FILE_MISSING: None,
        E.BUILD_SUCCEEDED: None,
        E.BUILD_FAILED: None,
        E.REPLICA_LOST: None,
        E.START_FAILED: None,
        E.PAUSE: None,
        E.RESTART: S.APP_STARTING,
        E.DELETE: S.DELETING,
    },
    S.DELETING: {E.DELETE: None, E.REPLICA_LOST: None, E.BUILD_FAILED: None, E.BUILD_SUCCEEDED: None},
}
_PLAIN = {S.RUNNING_BUILDING: S.BUILDING, S.RUNNING_APP_STARTING: S.APP_STARTING}
_LIFTED = {plain: lifted for lifted, plain in _PLAIN.items()}

MOVING = frozenset((S.BUILDING, S.APP_STARTING, S.RUNNING_BUILDING, S.RUNNING_APP_STARTING, S.DELETING))
"""Stages that end by themselves; the controller looks at them each round."""
ERRORS = frozenset((S.NO_APP_FILE, S.CONFIG_ERROR, S.BUILD_ERROR, S.RUNTIME_ERROR))
"""Stages in which the author has to do something."""
WANTS_REPLICA = frozenset((S.APP_STARTING, S.RUNNING_APP_STARTING, S.RUNNING))
"""Stages in which the newest good revision should be running."""


def plain(stage: Stage) -> Stage:
    """The stage without the RUNNING_ prefix that an older serving revision gives it."""
    return _PLAIN.get(stage, stage)


def _lift(stage: Stage, serving: bool) -> Stage:
    return _LIFTED.get(stage, stage) if serving else stage


def advance(stage: Stage, event: Event, *, serving: bool) -> Stage:
    """The stage after `event`. `serving` says whether a replica serves visitors *after* the event.

    Raises ImpossibleTransition if the event cannot come in that stage.
    """
    row = TABLE[plain(stage)]
    if event not in row:
        raise ImpossibleTransition(f"{event.value!r} cannot happen in stage {stage.value}")
    return _lift(row[event] or plain(stage), serving)


class Answer(StrEnum):
    """What a visitor of a Space gets, when nothing serves."""

    WAIT = "wait"
    """Held (API clients) or shown the waking page (browsers), until it serves."""
    WAKE = "wake"
    """The same, and the visit wakes it."""
    EXPLAIN = "explain"
    """A page or error that says what is wrong and who can mend it."""
    MISSING = "missing"
    """What a Space that does not exist gives."""


VISITOR: dict[Stage, Answer] = {
    S.NO_APP_FILE: Answer.EXPLAIN,
    S.CONFIG_ERROR: Answer.EXPLAIN,
    S.BUILD_ERROR: Answer.EXPLAIN,
    S.RUNTIME_ERROR: Answer.EXPLAIN,
    S.PAUSED: Answer.EXPLAIN,
    S.BUILDING: Answer.WAIT,
    S.APP_STARTING: Answer.WAIT,
    S.RUNNING: Answer.WAIT,
    S.RUNNING_BUILDING: Answer.WAIT,
    S.RUNNING_APP_STARTING: Answer.WAIT,
    S.SLEEPING: Answer.WAKE,
    S.DELETING: Answer.MISSING,
}
"""While a replica serves, the gateway sends the visitor there whatever the stage; this is for the rest."""
