"""Remembers resolutions: which lock the same question got before.

A lock is stored once by its content. Two kinds of pointers lead to it: one per Space, so that a push which does not
change the requirements never changes the packages either (and starts no resolver), and one per day for everybody, so
that ten Spaces with the same requirements ask the index once.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from builder.domain.resolution import digest
from builder.settings import Settings

_KEPT_DAYS = 3


@dataclass(frozen=True)
class Remembered:
    """The answer to an earlier question."""

    question: str
    lock: str
    environment: str = ""
    """Id of the environment that was made of it; empty if it is not known yet."""
    boxed: bool = False
    """It was resolved, and has to be installed, in the owner's sandbox."""


class Locks:
    def __init__(self, settings: Settings) -> None:
        self._folder = settings.cache / "locks"

    def of_space(self, space_id: str, question: str) -> Remembered | None:
        """What this Space's last build used, if it asked the same."""
        return self._load(self._space(space_id), question)

    def of_day(self, day: str, question: str) -> Remembered | None:
        """What anybody was answered on this day."""
        return self._load(self._day(day, question), question)

    def remember(self, space_id: str, answer: Remembered) -> None:
        self._store(self._space(space_id), answer)

    def remember_day(self, day: str, answer: Remembered) -> None:
        self._store(self._day(day, answer.question), answer)
        self._forget_days(day)

    def _load(self, pointer: Path, question: str) -> Remembered | None:
        try:
            entry = json.loads(pointer.read_text())
            if entry["question"] != question:
                return None
            lock = self._content(entry["lock"]).read_text()
            return Remembered(question, lock, str(entry["environment"]), bool(entry["boxed"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _store(self, pointer: Path, answer: Remembered) -> None:
        content = self._content(digest(answer.lock))
        if not content.exists():
            _write(content, answer.lock)
        entry = asdict(answer) | {"lock": digest(answer.lock)}
        _write(pointer, json.dumps(entry))

    def _content(self, name: str) -> Path:
        return self._folder / "content" / name

    def _space(self, space_id: str) -> Path:
        return self._folder / "spaces" / space_id

    def _day(self, day: str, question: str) -> Path:
        return self._folder / "days" / day / question

    def _forget_days(self, today: str) -> None:
        days = sorted(path for path in (self._folder / "days").iterdir() if path.name < today)
        for old in days[:-_KEPT_DAYS]:
            for path in old.iterdir():
                path.unlink(missing_ok=True)
            old.rmdir()


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    scratch.write_text(text)
    scratch.rename(path)
