"""The `environment` engine: a locked uv environment, shared by all Spaces with the same lock and Python.

An environment's id is a hash of everything it is made of, so one that exists is never made again, and its folder
appears under that name at once or not at all. Wheels come from one cache for everybody, by hard link, and are only
unpacked, never executed. As soon as something has to be built from source, or comes from an address of the author's
choosing, the whole work moves into the sandbox with a cache of the owner's own (`source_builds`).

A push that leaves the requirements as they are ends in `prepare` after reading two small files.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder import metrics
from builder.adapters.control import Control
from builder.adapters.engines.bytecode import WheelBytecode
from builder.adapters.engines.locks import Locks, Remembered
from builder.adapters.engines.pythons import Python, Pythons, machine_tag
from builder.adapters.engines.source_builds import SourceBuilds
from builder.adapters.engines.uv import QUIET_VENV, Uv, compile_arguments, sync_arguments
from builder.adapters.files import locked, publish, seal, touch
from builder.contract import BuildOrder
from builder.domain.plan import Plan
from builder.domain.resolution import digest, explain, lacks_wheels, narrow
from builder.failures import BuildFailed
from builder.sandbox.trees import remove_tree
from builder.settings import Settings

ENGINE = "environment-1"
"""Changes whenever environments made earlier must not be used any more."""

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment that is ready to be used."""

    id: str
    python: Python
    lock: str
    origin: str
    """made, shared (an earlier build had made it), or kept (this Space's own from its last build)."""
    boxed: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of `prepare`."""

    plan: Plan
    order: BuildOrder
    python: Python
    question: str
    """Hash of all that decides the resolution."""
    control: Control
    log: Log

    def environment_id(self, lock: str, *, boxed: bool) -> str:
        owner = self.order.owner_id if boxed else ""
        salt = self.order.build_id if self.order.factory else ""
        return digest(f"{ENGINE}\n{self.python.version}\n{machine_tag()}\n{owner}\n{salt}\n{lock}")[:32]


class EnvironmentEngine:
    """Makes environments below the data folder. May be used by several builds at once."""

    def __init__(self, settings: Settings, uv: Uv, pythons: Pythons) -> None:
        self._folder = settings.data / "environments"
        self._cache = settings.cache
        self._uv, self._pythons = uv, pythons
        self._locks = Locks(settings)
        self._source_builds = SourceBuilds(settings, uv, self._folder)

    def prepare(self, plan: Plan, order: BuildOrder, control: Control, log: Log) -> Environment:
        """The environment for a plan. Raises BuildFailed, or the build's reason to stop."""
        python = self._pythons.choose(plan.python, control)
        question = digest(f"{ENGINE}\n{python.version}\n{machine_tag()}\n{self._uv.key()}\n{plan.text()}")
        job = Job(plan=plan, order=order, python=python, question=question, control=control, log=log)
        known = None if order.factory else self._locks.of_space(order.space_id, question)
        found = self._kept(job, known)
        if found is None:
            found = self._made(job, known)
            answer = Remembered(question, found.lock, found.id, found.boxed)
            self._locks.remember(order.space_id, answer)
        metrics.environments.labels(origin=found.origin).inc()
        return found

    def _kept(self, job: Job, known: Remembered | None) -> Environment | None:
        if known is None or not self._exists(known.environment):
            return None
        job.log("The requirements did not change: using the environment of the last build.")
        python, lock, boxed = job.python, known.lock, known.boxed
        return Environment(id=known.environment, python=python, lock=lock, origin="kept", boxed=boxed)

    def _exists(self, name: str) -> bool:
        folder = self._folder / name
        if not name or not (folder / "bin" / "python").exists():
            return False
        touch(folder)
        return True

    def _made(self, job: Job, known: Remembered | None) -> Environment:
        lock = None
        if not job.plan.foreign and not (known and known.boxed):
            lock = known.lock if known else self._resolved(job)
        if lock is not None:
            return self._from_wheels(job, lock)
        lock, name, origin = self._source_builds.make(job)
        return Environment(id=name, python=job.python, lock=lock, origin=origin, boxed=True)

    def _resolved(self, job: Job) -> str | None:
        """The lock from wheels alone; None if something would have to be built from source."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        if not job.order.factory and (known := self._locks.of_day(day, job.question)):
            job.log("These requirements were resolved today already.")
            return known.lock
        lock = self._resolve(job)
        if lock is not None:
            self._locks.remember_day(day, Remembered(job.question, lock))
        return lock

    def _resolve(self, job: Job) -> str | None:
        plan = job.plan
        with self._inputs(job) as folder:
            constraints = folder / "constraints.txt"
            constraints.write_text("\n".join(plan.constraints) + "\n")
            argv = compile_arguments(job.python.path, places=self._uv.places, prereleases=plan.prereleases, build=False)
            argv += ["--constraints", str(constraints)] if plan.constraints else []
            argv += ["--refresh", "-"] if job.order.factory else ["-"]
            text = "\n".join(plan.requirements) + "\n"
            done = self._uv.run(argv, control=job.control, cache=self._shared, text=text, on_line=job.log)
        if done.code and lacks_wheels(done.err):
            job.log("Some packages have no wheels; they are built from source in the sandbox.")
            return None
        return pinned(plan, checked(done.code, done.out.decode(), done.err))

    def _from_wheels(self, job: Job, lock: str) -> Environment:
        name = job.environment_id(lock, boxed=False)
        origin = "shared"
        with locked(self._cache / "locks" / "making" / name, job.control):
            if not self._exists(name):
                self._install(job, lock, self._folder / name)
                origin = "made"
        return Environment(id=name, python=job.python, lock=lock, origin=origin)

    def _install(self, job: Job, lock: str, final: Path) -> None:
        with self._inputs(job) as inputs, self._wheel_cache(job) as cache:
            (inputs / "lock.txt").write_text(lock)
            made = self._folder / f".{final.name}-{job.order.build_id}"
            try:
                self._link(job, inputs / "lock.txt", made, cache, offline=False)
                if WheelBytecode(cache).complete(made, job.python, job.control):
                    job.log("Compiled the bytecode of new packages, for this and every later environment.")
                    self._link(job, inputs / "lock.txt", made, cache, offline=True)
                (made / "lock.txt").write_text(lock)
                seal(made)
                publish(made, final)
            finally:
                remove_tree(made)

    def _link(self, job: Job, lock: Path, folder: Path, cache: Path, *, offline: bool) -> None:
        """A fresh environment from the cache. Nothing of it is executed: uv asks the interpreter while it is empty."""
        remove_tree(folder)
        log = _ignore if offline else job.log
        argv = [*QUIET_VENV, "--python", str(job.python.path), str(folder)]
        done = self._uv.run(argv, control=job.control, cache=cache)
        checked(done.code, "", done.err)
        argv = sync_arguments(folder / "bin" / "python", lock, places=self._uv.places, build=False)
        argv += ["--offline"] if offline else []
        done = self._uv.run(argv, control=job.control, cache=cache, on_line=log)
        checked(done.code, "", done.err)

    @property
    def _shared(self) -> Path:
        return self._cache / "uv"

    @contextmanager
    def _wheel_cache(self, job: Job) -> Iterator[Path]:
        """The shared cache; a factory build gets an empty one of its own, so that nothing old can come from it."""
        if not job.order.factory:
            yield self._shared
            return
        folder = self._cache / f".factory-{job.order.build_id}"
        try:
            yield folder
        finally:
            remove_tree(folder)

    @contextmanager
    def _inputs(self, job: Job) -> Iterator[Path]:
        folder = self._cache / f".inputs-{job.order.build_id}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        finally:
            remove_tree(folder)


def checked(code: int, out: str, said: str) -> str:
    """`out` if the command succeeded; else raises BuildFailed with what it said, explained."""
    if code == 0:
        return out
    why = explain(said)
    raise BuildFailed(why.code, why.message, retry=why.retry)


def pinned(plan: Plan, lock: str) -> str:
    """The lock, narrowed to the hashes that the requirement files name."""
    narrowed, missing = narrow(lock, plan.hashes)
    if missing:
        message = f"No file of {missing} has a hash that the requirements allow. Correct the hash, or delete it."
        raise BuildFailed("hash-mismatch", message)
    return narrowed


def _ignore(line: str) -> None:
    del line
