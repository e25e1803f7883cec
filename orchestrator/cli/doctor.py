"""`dormouse doctor`: what this machine and installation have, what is missing, and what each missing thing means.

It changes nothing and needs no running Dormouse; where one runs, it is asked instead of guessed about. Every finding
has a meaning for people: a list of facts without one helps nobody.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator import settings as all_settings
from orchestrator.cli.common import out
from orchestrator.client import local
from orchestrator.errors import DormouseError, Refused
from orchestrator.settings import Settings
from orchestrator.supervisor import checks

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_MARKS = {OK: ("✓", "green"), WARNING: ("!", "yellow"), PROBLEM: ("✗", "red")}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    value: str
    meaning: str = ""
    """What follows from it and what to do; empty where all is well."""


def run(*, as_json: bool = False) -> int:
    """Print the findings; 1 if one of them is a problem."""
    chosen = local.as_running(all_settings.load())
    findings = list(examine(chosen))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark, colour = _MARKS[finding.state]
            out.print(f"[{colour}]{mark}[/{colour}] {finding.name:<26}", end="")
            out.print(finding.value, markup=False)
            if finding.meaning:
                out.print(f"  {'':<26}{finding.meaning}", style="dim", markup=False)
    return 1 if any(finding.state == PROBLEM for finding in findings) else 0


def examine(chosen: Settings) -> Iterator[Finding]:
    """All findings, from the machine up to the running processes."""
    running = bool(local.running(chosen)) and _alive(local.running(chosen).get("supervisor"))
    yield Finding(name="python", state=OK, value=f"{platform.python_version()} ({sys.executable})")
    yield _kernel()
    yield _git()
    yield _uv()
    yield _disk(chosen.data)
    yield _port(chosen, running=running)
    yield from _unknown_settings()
    yield _database(chosen)
    if running:
        yield from _children(local.running(chosen))
    else:
        yield Finding(
            name="dormouse", state=OK, value=f"not running ({chosen.data})", meaning="`dormouse up` starts it."
        )
    yield from _isolation(chosen, running=running)


def _alive(pid: object) -> bool:
    with contextlib.suppress(OSError):
        if isinstance(pid, int):
            os.kill(pid, 0)
            return True
    return False


def _kernel() -> Finding:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform == "linux":
        return Finding(name="system", state=OK, value=system)
    return Finding(
        name="system", state=WARNING, value=system, meaning="Spaces run without isolation here: push trusted code only."
    )


def _git() -> Finding:
    try:
        version = ".".join(map(str, checks.git_version()))
    except Refused as error:
        return Finding(name="git", state=PROBLEM, value="not usable", meaning=str(error))
    if not checks.git_speaks_http():
        meaning = "It has no `remote-http`, which fetches what is built: install the full git package."
        return Finding(name="git", state=PROBLEM, value=version, meaning=meaning)
    return Finding(name="git", state=OK, value=version)


def _uv() -> Finding:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        meaning = "Environments of Spaces cannot be built: install the package uv."
        return Finding(name="uv", state=PROBLEM, value="missing", meaning=meaning)
    answer = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return Finding(name="uv", state=OK, value=answer.stdout.strip().removeprefix("uv "))


def _disk(data: Path) -> Finding:
    place = next(folder for folder in (data, *data.parents) if folder.exists())
    free_mb = shutil.disk_usage(place).free >> 20
    value = f"{free_mb / 1024:.1f} GB free in {data}"
    if free_mb < checks.DISK_REFUSE_MB:
        return Finding(name="disk", state=PROBLEM, value=value, meaning="Too little to start: make room.")
    if free_mb < checks.DISK_WARN_MB:
        return Finding(name="disk", state=WARNING, value=value, meaning="Builds may fail: make room.")
    return Finding(name="disk", state=OK, value=value)


def _port(chosen: Settings, *, running: bool) -> Finding:
    address = f"{chosen.bind}:{chosen.port}"
    if running:
        return Finding(name="port", state=OK, value=f"{address}, used by the running Dormouse")
    try:
        checks.check_port(chosen.bind, chosen.port)
    except Refused as error:
        return Finding(name="port", state=PROBLEM, value=address, meaning=str(error))
    return Finding(name="port", state=OK, value=f"{address}, free")


def _unknown_settings() -> Iterator[Finding]:
    for line in all_settings.unknown(os.environ):
        yield Finding(name="setting", state=WARNING, value=line)


def _database(chosen: Settings) -> Finding:
    path = chosen.data / "dormouse.db"
    if not path.exists():
        return Finding(name="database", state=OK, value="none yet; the first start makes it")
    from orchestrator.adapters.database.version import HEAD

    revision = _revision(path)
    if revision == HEAD:
        return Finding(name="database", state=OK, value=f"version {revision}")
    meaning = f"This program speaks version {HEAD}; the next `dormouse up` brings it there, or says why it cannot."
    return Finding(name="database", state=WARNING, value=f"version {revision or 'unknown'}", meaning=meaning)


def _revision(path: Path) -> str:
    """Read without the program's own adapter, which refuses databases of other versions."""
    import sqlite3

    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
    ):
        row = db.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else ""
    return ""


def _children(state: Mapping[str, Any]) -> Iterator[Finding]:
    for child in state.get("children", []):
        name, restarts = f"process {child.get('name')}", child.get("restarts", 0)
        if not child.get("ready"):
            meaning = "It does not answer; the log of `dormouse up` says why."
            yield Finding(name=name, state=PROBLEM, value=f"not ready, {restarts} restarts", meaning=meaning)
            continue
        since = time.time() - float(child.get("since") or 0)
        value = f"up for {since:.0f} s (process {child.get('pid')})"
        if restarts:
            meaning = f"It has been restarted {restarts} times; the log of `dormouse up` says why."
            yield Finding(name=name, state=WARNING, value=value, meaning=meaning)
        else:
            yield Finding(name=name, state=OK, value=value)


def _isolation(chosen: Settings, *, running: bool) -> Iterator[Finding]:
    """What separates Spaces: told by the runner where it runs, tried out here otherwise."""
    if running:
        try:
            with local.local_hub(chosen) as hub:
                found = hub.call("GET", "/api/admin/overview").get("isolation")
        except DormouseError as error:
            yield Finding(name="isolation", state=PROBLEM, value="unknown", meaning=str(error))
            return
        if found:
            yield from _told(found)
            return
    yield from _tried(chosen)


def _told(found: Mapping[str, Any]) -> Iterator[Finding]:
    levels = {"full": OK, "reduced": WARNING, "none": PROBLEM}
    level = str(found.get("level"))
    yield Finding(name="isolation", state=levels.get(level, WARNING), value=f"{level} ({found.get('name')})")
    for feature, said in dict(found.get("features") or {}).items():
        yield _told_feature(feature.replace("_", " "), str(said))


def _told_feature(feature: str, said: str) -> Finding:
    """One feature in the runner's words: they begin with `on` or `off`, or say what is there instead."""
    value = next((word for word in ("on", "off") if re.match(rf"{word}\b", said)), "weaker")
    if said.startswith("not available"):
        value = "off"
    meaning = "" if said == "on" else said
    state = OK if re.match(r"on(:|$)", said) else WARNING
    return Finding(name=f"isolation {feature}", state=state, value=value, meaning=meaning)


def _tried(chosen: Settings) -> Iterator[Finding]:
    if sys.platform != "linux" or chosen.sandbox == "none":
        meaning = "Code in a Space can do whatever you can: push trusted code only."
        yield Finding(name="isolation", state=WARNING, value="none", meaning=meaning)
        return
    command = [sys.executable, "-P", "-m", "orchestrator.cli.sandbox", str(chosen.data)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    try:
        found = json.loads(answer.stdout)
    except ValueError:
        reason = (answer.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        yield Finding(name="sandbox", state=PROBLEM, value="could not be tried", meaning=reason)
        return
    if not found["works"]:
        yield Finding(name="sandbox", state=PROBLEM, value="does not work", meaning=found["problem"])
        return
    yield Finding(name="sandbox", state=OK, value="works")
    yield _feature("sandbox files", found["overlay"], "Apps cannot write in their own folder, only in /tmp and home.")
    yield _feature("sandbox system calls", found["system_calls"], "There is no system call filter for this processor.")
    if found["view"]:
        yield Finding(name="sandbox view", state=WARNING, value="not private", meaning=f"As root, {found['view']}.")


def _feature(name: str, is_on: bool, meaning: str) -> Finding:
    return Finding(
        name=name, state=OK if is_on else WARNING, value="on" if is_on else "off", meaning="" if is_on else meaning
    )
