"""Publishing the bundled samples as their author would: through the Hub API and a real `git push`.

Done on the first start only. What was published is kept in a small file of the data folder, so that a start that was
interrupted goes on where it stopped, and a sample that was deleted stays deleted.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

import orchestrator
from orchestrator.client.hub import Hub
from orchestrator.client.local import local_hub
from orchestrator.client.push import push, sdk_of
from orchestrator.domain.lifecycle import MOVING
from orchestrator.errors import DormouseError
from orchestrator.settings import Settings
from orchestrator.supervisor.console import Console
from orchestrator.supervisor.first_start import ADMIN

log = structlog.get_logger()

FINAL_LIMIT_S = 1800.0
_POLL_S = 0.3
_FILE = "samples.json"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One folder of `examples/`."""

    name: str
    folder: Path

    @property
    def space(self) -> str:
        return f"{ADMIN}/{self.name}"


def bundled() -> list[Sample]:
    """The samples of this installation: beside the code in a checkout, inside the package otherwise."""
    package = Path(orchestrator.__file__).parent
    places = (package / "_examples", package.parent / "examples")
    root = next((place for place in places if place.is_dir()), None)
    folders = sorted(root.iterdir()) if root else []
    return [Sample(name=folder.name, folder=folder) for folder in folders if (folder / "README.md").is_file()]


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What was done about the samples so far."""

    published: tuple[str, ...] = ()
    finished: bool = False
    """Nothing more is to be published; also where the first start was told to start empty."""


def read_ledger(file: Path) -> Ledger | None:
    """None where no start has got as far as the samples."""
    try:
        found = json.loads(file.read_text())
        return Ledger(published=tuple(map(str, found["published"])), finished=bool(found["finished"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Samples:
    """Publishes the samples and tells how they fare. Blocking: runs in a thread of its own, until `stopping()`."""

    def __init__(self, settings: Settings, console: Console, *, stopping: Callable[[], bool]) -> None:
        self._settings = settings
        self._console = console
        self._stopping = stopping
        self._file = settings.data / _FILE
        self._first = True
        """Whether this start publishes them; a later one only says where they are."""

    def run(self) -> None:
        """Publish what is not published yet, then tell where the samples are as soon as it is known how they fare."""
        ledger = read_ledger(self._file)
        if ledger is None:
            ledger = self._note(Ledger(finished=not self._settings.samples))
        if not self._settings.samples:
            return
        samples, self._first = bundled(), not ledger.finished
        try:
            with local_hub(self._settings) as hub:
                if not ledger.finished:
                    ledger = self._publish(samples, ledger, hub)
                self._follow([sample for sample in samples if sample.name in ledger.published], hub)
        except DormouseError as error:
            log.error("samples_not_published", reason=str(error))

    def _publish(self, samples: list[Sample], ledger: Ledger, hub: Hub) -> Ledger:
        for sample in samples:
            if self._stopping():
                return ledger
            if sample.name in ledger.published:
                continue
            with self._console.step(f"publishing the sample {sample.name}"):
                try:
                    self._publish_one(sample, hub)
                except DormouseError as error:
                    log.error("sample_not_published", sample=sample.name, reason=str(error))
                    continue
            ledger = self._note(Ledger(published=(*ledger.published, sample.name)))
        return self._note(replace(ledger, finished=True))

    def _publish_one(self, sample: Sample, hub: Hub) -> None:
        hub.create(sample.space, sdk=sdk_of(sample.folder))
        remote = f"{self._settings.local_url}/spaces/{sample.space}"
        push(sample.folder, remote, token=hub.token, show=lambda line: log.debug("git", line=line), as_copy=True)

    def _follow(self, samples: list[Sample], hub: Hub) -> None:
        """Show the phases of each sample until it neither builds nor starts any more, then where to find them all."""
        waiting, phases = {sample.name: sample for sample in samples}, dict[str, str]()
        verdicts: dict[str, str] = {}
        began, deadline = time.monotonic(), time.monotonic() + FINAL_LIMIT_S
        while waiting and not self._stopping() and time.monotonic() < deadline:
            for sample in list(waiting.values()):
                state = self._state(sample, hub)
                if state is None or state["stage"] not in MOVING:
                    del waiting[sample.name]
                    verdicts[sample.name] = self._conclude(sample, state, time.monotonic() - began)
                elif phases.get(sample.name) != state["phase"]:
                    phases[sample.name] = state["phase"]
                    self._log("sample_phase", sample=sample.name, phase=state["phase"])
            time.sleep(_POLL_S)
        lines = [verdicts[sample.name] for sample in samples if verdicts.get(sample.name)]
        if lines and not self._stopping():
            self._console.say("\n".join(["", *lines, ""]), event="samples")

    def _state(self, sample: Sample, hub: Hub) -> Mapping[str, Any] | None:
        try:
            return {"host": hub.space(sample.space)["host"], **hub.status(sample.space)}
        except DormouseError:
            return None

    def _conclude(self, sample: Sample, state: Mapping[str, Any] | None, took_s: float) -> str:
        """Log how a sample fares; the line for people, empty if it is no longer there."""
        if state is None:
            return ""
        stage = str(state["stage"])
        page = f"{self._settings.public_url}/spaces/{sample.space}"
        if stage in ("RUNNING", "SLEEPING"):
            self._log("sample_published", sample=sample.name, stage=stage, took_s=round(took_s, 1))
            return f"  {state['host']}  " + ("runs" if stage == "RUNNING" else "sleeps until its first visit")
        log.warning("sample_does_not_run", sample=sample.name, stage=stage, reason=state.get("message"), page=page)
        return f"  {page}  does not run ({stage}): its page says why"

    def _log(self, event: str, **fields: Any) -> None:
        (log.info if self._first else log.debug)(event, **fields)

    def _note(self, ledger: Ledger) -> Ledger:
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(asdict(ledger)))
        part.replace(self._file)
        return ledger
