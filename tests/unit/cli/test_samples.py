"""The samples are published once in the life of an installation."""

from pathlib import Path

import pytest

from orchestrator.settings import Settings
from orchestrator.supervisor.console import Console
from orchestrator.supervisor.samples import Ledger, Samples, bundled, read_ledger


class Recorder(Samples):
    """Publishes into a list."""

    def __init__(self, data: Path, *, samples: bool = True, stop_after: int = 99) -> None:
        self.done: list[str] = []
        super().__init__(Settings(data=data, samples=samples), Console(), stopping=lambda: len(self.done) >= stop_after)

    def _publish_one(self, sample, _hub):
        self.done.append(sample.name)

    def start(self) -> list[str]:
        ledger = read_ledger(self._file) or self._note(Ledger(finished=not self._settings.samples))
        if not ledger.finished:
            self._publish(bundled(), ledger, None)
        return self.done


NAMES = [sample.name for sample in bundled()]


def test_the_four_kinds_of_samples_are_bundled():
    assert {"gradio", "streamlit", "static", "asgi"} <= set(NAMES)


def test_every_start_after_the_first_publishes_nothing(tmp_path):
    assert Recorder(tmp_path).start() == NAMES
    assert Recorder(tmp_path).start() == []


def test_an_interrupted_start_is_finished_by_the_next(tmp_path):
    assert Recorder(tmp_path, stop_after=1).start() == NAMES[:1]
    assert Recorder(tmp_path).start() == NAMES[1:]
    assert Recorder(tmp_path).start() == []


def test_an_installation_that_began_empty_stays_so(tmp_path):
    Recorder(tmp_path, samples=False).run()
    assert read_ledger(tmp_path / "samples.json") == Ledger(finished=True)
    assert Recorder(tmp_path).start() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"published": 3, "finished": 1}', '{"finished": true}'])
def test_a_damaged_note_is_as_good_as_none(tmp_path, text):
    (tmp_path / "samples.json").write_text(text)
    assert read_ledger(tmp_path / "samples.json") is None
