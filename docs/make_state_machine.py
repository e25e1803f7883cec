"""Writes `state-machine.md` from `orchestrator.domain.lifecycle`, so that the page cannot disagree with the code.

    python -m docs.make_state_machine

A test compares the committed page with `page()`.
"""

from collections import Counter
from pathlib import Path

from orchestrator.domain.lifecycle import ERRORS, MOVING, TABLE, VISITOR, Answer, Event, Stage

PAGE = Path(__file__).parent / "state-machine.md"
_COMMON_FROM = 6
"""An event that leads to one stage from so many others is drawn once, from "any stage"."""
_INTRODUCTION = """\
# Stages of a Space

<!-- Written by `make docs` from orchestrator/domain/lifecycle.py; edit that file instead. -->

The stage speaks of the **newest commit** and of what its author waits for. Whether an older revision serves visitors
meanwhile is a second, separate fact: it is so while the Space's host has a route in mode serve or drain. While that is
so, `BUILDING` is called `RUNNING_BUILDING` and `APP_STARTING` is called `RUNNING_APP_STARTING`; everything else is the
same, so the diagram and the table of events show the plain names only.

An event that a stage does not list cannot happen in it: the code that reports it has a bug, and nothing is changed.
"""
_ANSWERS = {
    Answer.WAIT: "held, or shown the waking page, until it serves",
    Answer.WAKE: "the same, and the visit wakes it",
    Answer.EXPLAIN: "a page or an error that says what is wrong and who can mend it",
    Answer.MISSING: "what a Space that does not exist gives",
}


def page() -> str:
    """The whole page."""
    parts = (_INTRODUCTION, _diagram(), _transitions(), _stages())
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _common() -> dict[Event, Stage]:
    """Events that lead to the same stage from almost everywhere."""
    found: dict[Event, Stage] = {}
    for event in Event:
        targets = Counter(row[event] for stage, row in TABLE.items() if row.get(event) not in (None, stage))
        for favourite, count in targets.most_common(1):
            if favourite is not None and count >= _COMMON_FROM:
                found[event] = favourite
    return found


def _diagram() -> str:
    common = _common()
    arrows: dict[tuple[str, str], list[str]] = {}
    for event, favourite in common.items():
        arrows.setdefault(("any", favourite.value), []).append(event.value)
    for stage, row in TABLE.items():
        for event, target in row.items():
            if target is not None and target not in (stage, common.get(event)):
                arrows.setdefault((stage.value, target.value), []).append(event.value)
    # PAUSED and DELETING are no part of "any stage": what leads out of them is drawn in full.
    for stage in (Stage.PAUSED, Stage.DELETING):
        for event, target in TABLE[stage].items():
            if target is not None and target is not stage and target is common.get(event):
                arrows.setdefault((stage.value, target.value), []).append(event.value)
    lines = [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    head = ["```mermaid", "stateDiagram-v2", '    state "any stage but PAUSED, DELETING" as any']
    begin = [f"    [*] --> {Stage.NO_APP_FILE}: created", f"    {Stage.DELETING} --> [*]: everything is removed"]
    return "\n".join([*head, *begin, *lines, "```"])


def _transitions() -> str:
    head = ["## What can happen", "", "A dot: the stage stays. An empty field: this cannot happen.", ""]
    columns = " | ".join(f"`{stage}`" for stage in TABLE)
    lines = [f"| Event | {columns} |", f"| --- |{' --- |' * len(TABLE)}"]
    for event in Event:
        cells = (_cell(stage, event) for stage in TABLE)
        lines.append(f"| {event.value} | {' | '.join(cells)} |")
    return "\n".join([*head, *lines])


def _cell(stage: Stage, event: Event) -> str:
    if event not in TABLE[stage]:
        return ""
    target = TABLE[stage][event] or stage
    return "·" if target is stage else f"`{target}`"


def _stages() -> str:
    head = ["## The stages", "", "| Stage | Kind | What a visitor gets while nothing serves |", "| --- | --- | --- |"]
    return "\n".join([*head, *(f"| `{stage}` | {_kind(stage)} | {_ANSWERS[VISITOR[stage]]} |" for stage in Stage)])


def _kind(stage: Stage) -> str:
    if stage in ERRORS:
        return "waits for its author"
    return "ends by itself" if stage in MOVING else "at rest"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
