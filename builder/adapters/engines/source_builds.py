"""Environments that need code of packages to be run to be made: resolved, built and linked inside the sandbox.

Each owner has one folder that the box may write to, `cache/source/<owner>/box`, with uv's cache and the new environment
in it (one folder, since files cannot be hard-linked across mounts). Whatever lies in there was written by hostile code:
this side never creates anything in it, follows no link in it, and takes out only two things by name, the lock (read
without following links, to a bounded length) and the finished environment (`source_results`). How much of the disk the
folder takes is bounded while a build runs and after it; a build that fails leaves nothing of it.
"""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from builder.adapters.control import Control
from builder.adapters.engines.bytecode import PARALLEL_MAX, SCRIPT
from builder.adapters.engines.disk_watch import DiskWatch, file_too_large, is_within
from builder.adapters.engines.pythons import Python
from builder.adapters.engines.source_results import take_out
from builder.adapters.engines.uv import Uv, compile_arguments, sync_arguments
from builder.adapters.files import locked, touch
from builder.contract import BuildOrder
from builder.domain.plan import Plan
from builder.domain.resolution import explain, narrow
from builder.failures import BuildFailed, broken
from builder.sandbox.trees import remove_tree
from builder.settings import Settings

LOCK_BYTES_MAX = 4 << 20
_BOX, _IN, _UV, _COMPILE = "/build", "/in", "/opt/uv", "/opt/compile_files.py"
_NOT_MADE = 125
_FILE_TOO_LARGE = 128 + 25
"""Exit code after SIGXFSZ."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")


class Wanted(Protocol):
    """What is needed of a job of the engine."""

    @property
    def plan(self) -> Plan: ...
    @property
    def order(self) -> BuildOrder: ...
    @property
    def python(self) -> Python: ...
    @property
    def control(self) -> Control: ...
    @property
    def log(self) -> Callable[[str], None]: ...
    def environment_id(self, lock: str, *, boxed: bool) -> str: ...


class SourceBuilds:
    def __init__(self, settings: Settings, uv: Uv, environments: Path) -> None:
        self._settings, self._uv, self._environments = settings, uv, environments

    def make(self, job: Wanted) -> tuple[str, str, str]:
        """(lock, environment id, origin). Raises BuildFailed, or the build's reason to stop."""
        owner = job.order.owner_id
        if not _NAME.fullmatch(owner) or owner.startswith("."):
            raise broken(f"{owner!r} cannot be the name of an owner's cache.")
        home = self._settings.cache / "source" / owner
        with locked(home / "lock", job.control):
            return _Work(self._settings, self._uv, self._environments, job, home).make()


class _Work:
    """One build in the owner's box."""

    def __init__(self, settings: Settings, uv: Uv, environments: Path, job: Wanted, home: Path) -> None:
        self._settings, self._uv, self._environments, self._job, self._home = settings, uv, environments, job, home
        self._name = secrets.token_hex(8)
        self._inputs = home / f".in-{self._name}"
        self._limit = settings.source_bytes_max
        self._said: list[str] = []

    @property
    def _box(self) -> Path:
        return self._home / "box"

    def make(self) -> tuple[str, str, str]:
        self._prepare_box()
        self._watch = DiskWatch(self._box, self._limit)
        self._write_inputs()
        try:
            return self._make()
        except BuildFailed as failed:
            if not failed.failure.retry:
                remove_tree(self._box)
            raise
        finally:
            remove_tree(self._inputs)
            self._tidy_box()

    def _make(self) -> tuple[str, str, str]:
        lock = self._resolve()
        name = self._job.environment_id(lock, boxed=True)
        if (self._environments / name / "bin" / "python").exists():
            touch(self._environments / name)
            return lock, name, "shared"
        self._install(lock)
        self._watch.check()
        take_out(self._box / self._name, self._environments / name, lock=lock, python=self._job.python)
        return lock, name, "made"

    def _prepare_box(self) -> None:
        """An empty box for factory builds, and where the old one leaves less than half of the disk for this one."""
        if self._box.is_dir() and (self._job.order.factory or not is_within(self._box, self._limit // 2)):
            remove_tree(self._box)
        self._box.mkdir(parents=True, exist_ok=True)

    def _tidy_box(self) -> None:
        """What this build made by name goes; the cache stays for the next one if it is not too large."""
        for name in (self._name, f"{self._name}.lock"):
            remove_tree(self._box / name)
            with contextlib.suppress(OSError):
                (self._box / name).unlink()
        if self._box.is_dir() and not is_within(self._box, self._limit):
            remove_tree(self._box)

    def _write_inputs(self) -> None:
        plan = self._job.plan
        self._inputs.mkdir()
        (self._inputs / "requirements.in").write_text("\n".join(plan.requirements) + "\n")
        (self._inputs / "constraints.txt").write_text("\n".join(plan.constraints))

    def _places(self) -> tuple[tuple[str, str], ...]:
        own = (("--find-links", "/opt/wheels"),) if self._settings.wheels else ()
        return (*own, *self._job.plan.places)

    def _resolve(self) -> str:
        lock = f"{_BOX}/{self._name}.lock"
        argv = compile_arguments(
            self._job.python.path, places=self._places(), prereleases=self._job.plan.prereleases, build=True
        )
        argv += ["--constraints", f"{_IN}/constraints.txt"] if self._job.plan.constraints else []
        argv += ["--quiet", "-o", lock, f"{_IN}/requirements.in"]
        self._run([_UV, *argv], "resolved")
        narrowed, missing = narrow(self._read_lock(), self._job.plan.hashes)
        if missing:
            message = f"No file of {missing} has a hash that the requirements allow. Correct the hash, or delete it."
            raise BuildFailed("hash-mismatch", message)
        return narrowed

    def _read_lock(self) -> str:
        try:
            descriptor = os.open(self._box / f"{self._name}.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise BuildFailed("no-lock", "The resolver left no result in the sandbox.") from error
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BuildFailed("no-lock", "The resolver left no result in the sandbox.")
            return file.read(LOCK_BYTES_MAX).decode("utf-8", "replace")

    def _install(self, lock: str) -> None:
        (self._inputs / "lock.txt").write_text(lock)
        python, folder = self._job.python.path, f"{_BOX}/{self._name}"
        sync = sync_arguments(Path(folder, "bin/python"), Path(_IN, "lock.txt"), places=self._places(), build=True)
        parts = min(os.cpu_count() or 1, PARALLEL_MAX)
        script = (
            "python=$1; env=$2; parts=$3; shift 3\nset -e\n"
            f'{_UV} venv --quiet --relocatable --no-project --python "$python" "$env"\n'
            f'{_UV} "$@"\n'
            "set +e\n"
            f'i=0; while [ $i -lt $parts ]; do "$python" -I -S -B {_COMPILE} {_BOX} $i $parts "$env/lib" >/dev/null & '
            "i=$((i+1)); done; wait\nexit 0\n"
        )
        self._run(["/bin/sh", "-c", script, "sh", str(python), folder, str(parts), *sync], "installed")

    def _run(self, command: list[str], what: str) -> None:
        from builder.sandbox.run import Boxed, run_boxed

        egress = self._settings.run / "egress"
        boxed = Boxed(
            command=command,
            read_only=self._read_only(),
            writable={_BOX: self._box},
            environment=self._uv.box_environment() | _ENVIRONMENT,
            workdir=_BOX,
            egress=egress if (egress / "egress.sock").exists() and self._settings.egress != "none" else None,
            timeout_s=self._settings.install_timeout_s,
            file_bytes_max=self._limit // 2,
        )
        self._said.clear()
        sandbox = self._settings.sandbox
        outcome = run_boxed(boxed, self._hear, sandbox=sandbox, cancelled=self._cancelled)
        self._job.control.check()
        if outcome.exit_code or outcome.reason != "exited":
            raise self._failure(outcome.exit_code, outcome.reason, what)

    def _read_only(self) -> dict[str, Path]:
        shown = {_IN: self._inputs, _UV: self._uv.binary, _COMPILE: SCRIPT}
        prefix = self._job.python.prefix
        if not self._job.python.system:
            shown[str(prefix)] = prefix
        if self._settings.wheels:
            shown["/opt/wheels"] = Path(self._settings.wheels)
        return shown

    def _hear(self, line: str) -> None:
        if line.strip():
            self._said = [*self._said[-199:], line]
            self._job.log(line)

    def _cancelled(self) -> bool:
        return self._job.control.stopped.is_set() or self._watch.is_over()

    def _failure(self, code: int, reason: str, what: str) -> BuildFailed:
        said = "\n".join(self._said)
        if code == _NOT_MADE:
            message = (
                "Some packages have no wheels and would have to be built from source, which is only done in the "
                f"sandbox, and that does not work on this machine. {' '.join(self._said[-1:])[:300]}"
            )
            return BuildFailed("no-sandbox", message)
        if self._watch.failure:
            return self._watch.failure
        if code == _FILE_TOO_LARGE or "File too large" in said:
            return file_too_large(self._limit // 2)
        if reason == "memory-limit":
            return BuildFailed("build-memory", "A package needed more memory to be built than a build may take.")
        why = explain(said)
        message = why.message if why.code != "install-failed" else f"The packages could not be {what}. {why.message}"
        return BuildFailed(why.code, message, retry=why.retry and "dns error" not in said)


_ENVIRONMENT = {
    "UV_CACHE_DIR": f"{_BOX}/cache",
    "UV_LINK_MODE": "hardlink",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_NO_CONFIG": "1",
    "NO_COLOR": "1",
}
