"""One build, from order to result, readable top to bottom: fetch, detect, plan, install, snapshot, report.

Each phase is reported when it begins, timed, and has a deadline that ends whatever it started. What goes wrong becomes
a Failure with a sentence for the author; a build that nobody wants any more, or whose worker ends, raises Stopped and
reports nothing.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import structlog

from builder import metrics
from builder.adapters.control import Control, PhaseTimeout, Stopped
from builder.adapters.engines.environment import ENGINE, Environment, EnvironmentEngine
from builder.adapters.snapshot import Snapshot, Snapshots, Wanted
from builder.adapters.source import Commit, Repository, fetched
from builder.contract import BuildOrder, BuildResult, Failure, Image, Phase
from builder.domain.detect import Recipe, examine
from builder.domain.plan import Plan, make_plan
from builder.domain.problems import Refusal
from builder.domain.resolution import digest, packages
from builder.domain.tree import Listing
from builder.failures import BuildFailed, at_sdk_version, broken, of_system, refused
from builder.settings import Settings

log = structlog.get_logger()

READ_BYTES_MAX = 4 << 20
"""What detection and planning see of one file."""


class Report(Protocol):
    """Where a build says how it goes. Must not block."""

    def phase(self, phase: Phase, detail: str = "") -> None: ...
    def line(self, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The adapters that a build uses; shared by all builds of a worker."""

    settings: Settings
    engine: EnvironmentEngine
    snapshots: Snapshots


@dataclass(kw_only=True)
class Build:
    """One run of the pipeline."""

    order: BuildOrder
    tools: Tools
    report: Report
    control: Control
    card: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def run(self) -> BuildResult:
        """The result to report. Raises Stopped if there is nothing to report to anybody."""
        try:
            return self._succeed()
        except BuildFailed as failed:
            return self._failed(failed.failure)
        except PhaseTimeout as timeout:
            return self._failed(Failure(stage="BUILD_ERROR", code="timeout", message=str(timeout)))
        except Stopped:
            raise
        except OSError as error:
            log.exception("build_broken", build=self.order.build_id)
            return self._failed(of_system(error).failure)
        except Exception:
            log.exception("build_broken", build=self.order.build_id)
            return self._failed(
                broken("Something inside Dormouse failed; its administrator finds more in its log.").failure
            )

    def _succeed(self) -> BuildResult:
        self.report.line(f"Building {self.order.space} at commit {self.order.sha[:8]}")
        with contextlib.ExitStack() as stack:
            with self._phase(Phase.FETCH, self.order.sha[:8]):
                repository, commit, files = self._fetch(stack)
            with self._phase(Phase.DETECT):
                recipe = self._detect(repository, files)
            with self._phase(Phase.PLAN, recipe.sdk):
                plan = self._plan(repository, files, recipe)
            with self._phase(Phase.INSTALL):
                environment = self._install(recipe, plan)
            with self._phase(Phase.SNAPSHOT):
                snapshot = self._snapshot(repository, commit, files, recipe, environment)
        image = _image(recipe, environment, snapshot.place, made_of=(commit.tree, plan.text()))
        lock = environment.lock if environment else ""
        return BuildResult(image=image, lock=lock, card=dict(self.card), warnings=self.warnings)

    @contextlib.contextmanager
    def _phase(self, phase: Phase, detail: str = "") -> Iterator[None]:
        settings, outcome, started = self.tools.settings, "failed", time.monotonic()
        limit = settings.install_timeout_s if phase is Phase.INSTALL else settings.fetch_timeout_s
        self.control.check()
        self.report.phase(phase, detail)
        try:
            with self.control.limit(phase.value, limit):
                yield
            outcome = "succeeded"
        except Stopped:
            outcome = "stopped"
            raise
        finally:
            took = time.monotonic() - started
            metrics.phase_seconds.labels(phase=phase.value, outcome=outcome).observe(took)

    def _fetch(self, stack: contextlib.ExitStack) -> tuple[Repository, Commit, Listing]:
        folder = self.tools.settings.cache / "fetch" / f".{self.order.build_id}"
        limit = self.tools.settings.snapshot_files_max
        repository = stack.enter_context(fetched(self.order, folder, self.control, files_max=limit))
        files = repository.listing()
        self.report.line(f"Fetched {len(files)} files.")
        return repository, repository.commit(), files

    def _detect(self, repository: Repository, files: Listing) -> Recipe:
        card, recipe = examine(files, _reader(repository, files))
        self.card = card.data
        if isinstance(recipe, Refusal):
            raise refused(recipe)
        self.report.line(f"{recipe.why}; the app file is {recipe.app_file}.")
        return recipe

    def _plan(self, repository: Repository, files: Listing, recipe: Recipe) -> Plan:
        plan = make_plan(recipe, files, _reader(repository, files))
        if isinstance(plan, Refusal):
            raise refused(plan)
        self._warn(plan.warnings)
        if plan.requirements:
            self.report.line("Requirements: " + ", ".join(plan.requirements)[:2000])
        return plan

    def _install(self, recipe: Recipe, plan: Plan) -> Environment | None:
        if recipe.sdk == "static":
            self.report.line("A static page needs no environment.")
            return None
        try:
            environment = self.tools.engine.prepare(plan, self.order, self.control, self.report.line)
        except BuildFailed as failed:
            raise at_sdk_version(failed, recipe) from failed
        count = len(packages(environment.lock))
        self.report.line(f"Python {environment.python.version} with {count} packages ({environment.origin}).")
        return environment

    def _snapshot(
        self, repository: Repository, commit: Commit, files: Listing, recipe: Recipe, environment: Environment | None
    ) -> Snapshot:
        wanted = Wanted(
            order=self.order,
            control=self.control,
            log=self.report.line,
            python=environment.python if environment else None,
            page=recipe.app_file if recipe.sdk == "static" else None,
        )
        snapshot = self.tools.snapshots.write(repository, commit, files, wanted)
        for mistake in snapshot.mistakes:
            if mistake.file == recipe.app_file:
                message = f"{mistake.file} is not valid Python: {mistake.message}. Correct the line and push again."
                raise BuildFailed("syntax-error", message, file=mistake.file, line=mistake.line)
            self.report.line(f"Warning: {mistake.file}:{mistake.line}: {mistake.message}")
        return snapshot

    def _warn(self, warnings: tuple[str, ...]) -> None:
        self.warnings = (*self.warnings, *warnings)
        for text in warnings:
            self.report.line(f"Warning: {text}")

    def _failed(self, failure: Failure) -> BuildResult:
        where = f"{failure.file}:{failure.line}: " if failure.file and failure.line else ""
        self.report.line(f"Error: {where}{failure.message}")
        return BuildResult(failure=failure, card=dict(self.card), warnings=self.warnings)


def _reader(repository: Repository, files: Listing) -> Callable[[str], bytes]:
    """Reads small files of the commit, each once."""

    @lru_cache(maxsize=256)
    def read(path: str) -> bytes:
        return repository.read(files[path], READ_BYTES_MAX)

    return read


def _image(recipe: Recipe, environment: Environment | None, place: str, *, made_of: tuple[str, ...]) -> Image:
    """What a runtime needs, under a name that is a hash of everything the revision is made of."""
    python = environment.python.version if environment else None
    parts = (ENGINE, *made_of, environment.id if environment else "", python or "", place, *recipe.command)
    return Image(
        id=digest("\n".join(parts))[:32],
        kind="environment" if environment else "static",
        sdk=recipe.sdk,
        snapshot=place,
        environment=f"environments/{environment.id}" if environment else None,
        python=python,
        command=recipe.command,
        port=recipe.port,
        start_timeout_s=recipe.start_timeout_s,
    )
