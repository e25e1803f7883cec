"""Push accepted -> commit recorded, and a build wanted or the problem shown.

What git has stored is never refused here: the commit is recorded as it is, and what cannot be used of it is said with
file, line and what to write instead, in git's own output and on the Space's page. Called for every way a commit can
arrive; calling it twice for one commit changes nothing.
"""

from dataclasses import dataclass
from typing import Any

import structlog

from builder.domain.card import README_BYTES_MAX, Card
from builder.domain.detect import Recipe, examine
from builder.domain.problems import CONFIG_ERROR, Refusal
from builder.domain.tree import Entry, Kind, Listing
from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import CommitSha
from orchestrator.domain.space import BuildStatus, Problem, Space
from orchestrator.errors import DormouseError, Invalid
from orchestrator.flows.context import Tools
from orchestrator.flows.request_build import request_build
from orchestrator.flows.tell import tell

log = structlog.get_logger()
MAIN = "refs/heads/main"
NOTE_S = 40.0
"""A younger note belongs to a hook that is still asking."""
_KINDS = {"file": Kind.FILE, "symlink": Kind.LINK, "submodule": Kind.SUBMODULE}
_EVENTS = {Stage.CONFIG_ERROR: Event.CONFIG_REFUSED, Stage.NO_APP_FILE: Event.APP_FILE_MISSING}


@dataclass(frozen=True)
class Received:
    """What the author is told, and the Space after it."""

    lines: list[str]
    space: Space


def receive_commit(tools: Tools, space: Space, *, now: float) -> Received:
    """Take notice of the head of `main`."""
    sha = tools.repositories.resolve(space.id, MAIN)
    if sha is None or sha == space.sha:
        return Received(["Nothing on main has changed."], space)
    commit = tools.repositories.commit(space.id, sha)
    card, found = _examine(tools, space, sha)
    fields: dict[str, Any] = {"sha": sha, "updated_at": now}
    if card.present:
        fields["card"] = dict(card.data)
    text = f"commit {sha[:8]}: {commit.title[:200]}"
    if isinstance(found, Refusal):
        after = _refuse(tools, space, found, text, fields, now=now)
        first = Problem(found.code, found.message, found.file, found.line)
        outcome = [f"{found.stage} {first}", *(f"{'':>{len(found.stage)}} {finding}" for finding in found.more)]
    else:
        after = request_build(tools, space, sha, now=now, text=text, fields=fields | {"sdk": found.sdk})
        outcome = ["The Space is paused: restart it to build this."] if after.stage is Stage.PAUSED else []
    log.info("commit_received", space=space.full_name, sha=sha[:8], stage=after.stage.value)
    if tools.repositories.resolve(space.id, MAIN) != sha:
        # Another push came in between; its own hook may have been the faster one, and must not be undone by this.
        return receive_commit(tools, after, now=now)
    return Received(_lines(tools, after, sha, outcome, warning=card.unknown_keys()), after)


def pick_up_pushes(tools: Tools, *, now: float) -> int:
    """Take notice of pushes whose hook was cut off: each left a note (see adapters/git/hooks). Returns how many."""
    notes = tools.settings.data / "received"
    picked_up = 0
    for note in sorted(notes.iterdir()) if notes.is_dir() else ():
        try:
            if now - note.stat().st_mtime <= NOTE_S:
                continue
            space = tools.store.space(note.name)
            if space is not None:
                receive_commit(tools, space, now=now)
            note.unlink(missing_ok=True)
            picked_up += 1
        except FileNotFoundError:
            continue  # Its hook has been answered meanwhile.
        except DormouseError as error:
            log.warning("push_not_picked_up", space_id=note.name, why=str(error))
    return picked_up


def _examine(tools: Tools, space: Space, sha: CommitSha) -> tuple[Card, Recipe | Refusal]:
    """The card, as far as it can be read, and what the commit is or why it is nothing."""
    try:
        entries = tools.repositories.tree(space.id, sha, recursive=True)
    except Invalid as error:
        message = f"{error} Take files out of the commit and push again."
        return Card(), Refusal(stage=CONFIG_ERROR, code="too-many-files", message=message)
    listing: Listing = {
        entry.path: Entry(_KINDS[entry.kind], entry.size, entry.oid) for entry in entries if entry.kind in _KINDS
    }

    def read(path: str) -> bytes:
        return tools.repositories.read(space.id, listing[path].object_id, limit=README_BYTES_MAX)

    return examine(listing, read)


def _refuse(tools: Tools, space: Space, refusal: Refusal, text: str, fields: dict[str, Any], *, now: float) -> Space:
    problem = Problem(refusal.code, refusal.summary, refusal.file, refusal.line)
    event = _EVENTS.get(Stage(refusal.stage), Event.CONFIG_REFUSED)
    for build in tools.store.unfinished_builds():
        if build.space_id == space.id:
            tools.store.build_finished(build.id, BuildStatus.SUPERSEDED, now=now)
    after = tools.store.happen(space.id, event, now=now, text=f"{text} - {problem}", problem=problem, **fields)
    tell(tools, space.id)
    return after


def _lines(tools: Tools, space: Space, sha: str, outcome: list[str], *, warning: str) -> list[str]:
    page = f"{tools.settings.public_url}/spaces/{space.full_name}"
    builds = tools.store.builds(space.id, limit=1)
    lines = ["", f"Dormouse received {sha[:8]} of {space.full_name}."]
    if warning:
        lines.append(f"  Warning:  {warning}")
    if outcome:
        lines += [*(f"  {line}" for line in outcome), f"  Page:     {page}"]
    else:
        progress = f"{page}/builds/{builds[0].id}" if builds else page
        lines += [f"  App:      {tools.settings.host_url(space.host)}", f"  Progress: {progress}"]
    return [*lines, ""]
