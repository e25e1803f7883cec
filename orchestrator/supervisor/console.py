"""What `dormouse up` shows: one log of all processes, and a progress line for each slow step.

Children write JSON lines; here they become `time process event key=value`, coloured on a terminal and plain elsewhere,
or go through untouched with `DORMOUSE_LOG_JSON=1`. Everything goes to standard error: standard output is for the one
line that scripts wait for. Lines of children are hostile in so far as they may hold what visitors and authors sent, so
control characters never reach the terminal.
"""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.text import Text

from orchestrator.log import mask, redact

LINE_BYTES_MAX = 16_384
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_COLOURS = (
    "cyan",
    "magenta",
    "green",
    "blue",
    "yellow",
    "bright_cyan",
    "bright_magenta",
    "bright_green",
    "bright_blue",
)
_LEVEL_STYLES = {"debug": "dim", "warning": "yellow", "error": "bold red", "critical": "bold red"}
_LEVELS = ("debug", "info", "warning", "error", "critical")
_HIDDEN = frozenset(("t", "timestamp", "level", "event", "process", "exception", "stack"))


def parse(raw: bytes) -> dict[str, Any]:
    """A line of a child as a record; what is no JSON object becomes an event of its own."""
    text = raw[:LINE_BYTES_MAX].decode("utf-8", "replace").rstrip()
    if text.startswith("{"):
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if isinstance(record, dict) and isinstance(record.get("event"), str):
            # Each process masks by itself; a library that logs past that is caught here.
            return dict(redact(None, "", record))
    return {"event": mask(_ANSI.sub("", text))}


class Console:
    """Shows records and steps. Used from one thread of the supervisor, and by the samples' thread for steps."""

    def __init__(self, *, as_json: bool = False, level: str = "info", rich: RichConsole | None = None) -> None:
        self._json = as_json
        self._threshold = _LEVELS.index(level)
        self._rich = rich or RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._colours: dict[str, str] = {}

    def record(self, process: str, record: Mapping[str, Any]) -> None:
        """Show one record of a process."""
        level = str(record.get("level", "info"))
        if level in _LEVELS and _LEVELS.index(level) < self._threshold:
            return
        if self._json:
            line = {"t": time.time(), "level": level, **record, "process": process}
            print(json.dumps(line, default=str, ensure_ascii=False), file=sys.stderr, flush=True)
            return
        self._rich.print(self._render(process, level, record))

    def say(self, text: str, *, event: str = "note", **fields: Any) -> None:
        """Show a sentence of the supervisor itself."""
        if self._json:
            self.record("dormouse", {"event": event, "message": text, **fields})
        else:
            self._rich.print(Text(text))

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something slow goes on, and how long it took."""
        began = time.monotonic()
        if self._rich.is_terminal and not self._json:
            with self._rich.status(text):
                yield
        else:
            self.say(f"{text} ...", event="step_began")
            yield
        took = time.monotonic() - began
        self.say(f"{text}: done in {took:.1f} s", event="step_done", took_s=round(took, 2))

    def _render(self, process: str, level: str, record: Mapping[str, Any]) -> Text:
        at = record.get("t")
        clock = time.localtime(at if isinstance(at, int | float) else time.time())
        colour = self._colours.setdefault(process, _COLOURS[len(self._colours) % len(_COLOURS)])
        line = Text().append(time.strftime("%H:%M:%S ", clock), style="dim")
        line.append(f"{process:<10} ", style=colour)
        line.append(_clean(str(record["event"])), style=_LEVEL_STYLES.get(level, ""))
        for key, value in record.items():
            if key not in _HIDDEN:
                line.append(f" {key}=", style="dim").append(_clean(_shown(value)))
        for key in ("exception", "stack"):
            if record.get(key):
                line.append("\n" + _clean(str(record[key])), style="red")
        return line


def _shown(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if not value or re.search(r"[\s\"=]", value) else value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, default=str, ensure_ascii=False)


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)
