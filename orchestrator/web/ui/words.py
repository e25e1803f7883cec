"""What each stage is called on pages and what happens next: plain words for people who do not write code.

One row per stage, in the order of `orchestrator/domain/lifecycle.py`. A test asks for a row of every stage.
"""

from dataclasses import dataclass

from orchestrator.domain.lifecycle import ERRORS, VISITOR, Answer, Stage


@dataclass(frozen=True)
class Words:
    """One stage in words."""

    label: str
    """On the badge."""
    tone: str
    """ok, busy, asleep, error or off: a class of the style sheet."""
    headline: str
    """One sentence: what is the case."""
    visitor: str
    """What happens next, for people who may only look."""
    writer: str
    """What to do next, for those who may change the Space."""


_ASK = "Only its owner can mend that. Nothing is wrong on your side."
WORDS: dict[Stage, Words] = {
    Stage.NO_APP_FILE: Words(
        "No app yet", "off", "There is nothing to run in this Space yet.",
        "It appears here as soon as its owner publishes an app.",
        "Push a repository with an app file; it is built at once.",
    ),
    Stage.CONFIG_ERROR: Words(
        "Configuration error", "error", "The settings in the newest commit cannot be used.", _ASK,
        "Correct what the message names and push again; the build starts by itself.",
    ),
    Stage.BUILDING: Words(
        "Building", "busy", "The newest commit is being built.",
        "The app opens here by itself when it is ready.", "The app opens here by itself when it is ready.",
    ),
    Stage.BUILD_ERROR: Words(
        "Build failed", "error", "The newest commit could not be built.", _ASK,
        "Read the build log, correct it and push again. If the fault was elsewhere, rebuild in Settings.",
    ),
    Stage.APP_STARTING: Words(
        "Starting", "busy", "The app is starting.",
        "It opens here by itself.", "It opens here by itself.",
    ),
    Stage.RUNNING: Words(
        "Running", "ok", "The app is running.",
        "It falls asleep when nobody uses it and wakes on the next visit.",
        "It falls asleep when nobody uses it and wakes on the next visit.",
    ),
    Stage.RUNNING_BUILDING: Words(
        "Running, building an update", "ok", "The app is running; a newer commit is being built.",
        "The newer version takes over by itself.", "The newer version takes over by itself once it answers.",
    ),
    Stage.RUNNING_APP_STARTING: Words(
        "Running, update starting", "ok", "The app is running; a newer version is starting beside it.",
        "The newer version takes over by itself.", "The newer version takes over by itself once it answers.",
    ),
    Stage.RUNTIME_ERROR: Words(
        "Error", "error", "The app was built, but it does not run.", _ASK,
        "Read the run log, correct it and push again, or restart it.",
    ),
    Stage.SLEEPING: Words(
        "Asleep", "asleep", "The app is asleep.",
        "A visit wakes it: opening it here is enough.", "A visit wakes it: opening it here is enough.",
    ),
    Stage.PAUSED: Words(
        "Paused", "off", "The app has been paused by its owner.",
        "Visits do not wake it; its owner can restart it.",
        "Visits do not wake it. Restart it when it is wanted again.",
    ),
    Stage.DELETING: Words(
        "Being deleted", "off", "This Space is being deleted.",
        "It is gone in a moment.", "It is gone in a moment.",
    ),
}  # fmt: skip

PHASES = {
    "queued": "Waiting for a free builder",
    "fetch": "Fetching the repository",
    "detect": "Finding out what kind of app it is",
    "plan": "Working out the requirements",
    "install": "Installing packages",
    "snapshot": "Taking a snapshot of the files",
    "report": "Recording the result",
}
"""Phases of a build in words; others are shown as they are."""

OUTCOMES = {
    "queued": ("Waiting", "busy"),
    "running": ("Running", "busy"),
    "succeeded": ("Succeeded", "ok"),
    "failed": ("Failed", "error"),
    "superseded": ("Replaced by a newer commit", "off"),
    "cancelled": ("Cancelled", "off"),
}
"""Status of a build -> words and tone."""

SDKS = {"gradio": "Gradio", "streamlit": "Streamlit", "static": "Static", "asgi": "ASGI", "docker": "Docker"}


def badges(stage: Stage, *, serving: bool, problem: bool) -> tuple[tuple[str, str], ...]:
    """(label, tone) of each badge: two where an older version serves or sleeps and the newest commit has a problem."""
    words = WORDS[stage]
    if serving and stage in ERRORS:
        return (("Running", "ok"), (f"Newest commit: {words.label[0].lower()}{words.label[1:]}", "error"))
    if problem and stage not in ERRORS:
        return ((words.label, words.tone), ("Newest commit: problem", "error"))
    return ((words.label, words.tone),)


def frame_shown(stage: Stage, *, serving: bool) -> bool:
    """Whether the app's own address has something better to show than an explanation: the app, or its waking page."""
    return serving or VISITOR[stage] in (Answer.WAIT, Answer.WAKE)


def headline(stage: Stage, *, serving: bool) -> str:
    """What is the case, in one sentence."""
    if serving and stage in ERRORS:
        return "An earlier version keeps running. " + WORDS[stage].headline
    return WORDS[stage].headline


def next_step(stage: Stage, *, serving: bool, may_write: bool) -> str:
    """What happens next, or who has to do what."""
    words = WORDS[stage]
    if may_write:
        return words.writer
    return "You can go on using it." if serving and stage in ERRORS else words.visitor


def phase_words(phase: str) -> str:
    """A phase in words."""
    name = phase.strip()
    return PHASES.get(name.lower()) or (name[:1].upper() + name[1:].replace("_", " "))[:120]
