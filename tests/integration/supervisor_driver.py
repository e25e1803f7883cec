"""A supervisor with stand-in children, in a process of its own, for test_supervisor.py.

Usage: python supervisor_driver.py FOLDER CHILDREN_JSON. Each child: {name, code, after, stop_stage, stop_grace_s,
survivors, ready_file}. Prints `ready` on standard output once all answer, and lives until SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from orchestrator.settings import Settings
from orchestrator.supervisor import up
from orchestrator.supervisor.children import ChildSpec
from orchestrator.supervisor.console import Console


def spec(folder: Path, given: dict) -> ChildSpec:
    async def ready() -> bool:
        file = given.get("ready_file")
        return not file or (folder / file).exists()

    return ChildSpec(
        name=given["name"],
        argv=lambda: [sys.executable, "-c", given["code"]],
        ready=ready,
        env=dict(os.environ),
        after=tuple(given.get("after", ())),
        stop_stage=given.get("stop_stage", 0),
        stop_grace_s=given.get("stop_grace_s", 1.0),
        survivors=given.get("survivors", False),
    )


async def main() -> None:
    folder = Path(sys.argv[1])
    settings = Settings(data=folder)
    settings.run.mkdir(exist_ok=True)
    console = Console()
    up.show_own_log(console, "info")
    family = up.make_family(settings, [spec(settings.run, given) for given in json.loads(sys.argv[2])], console)
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            family.hurry.set()
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_signal)
    starting = asyncio.create_task(family.start(lambda name, _took_s: print(f"ready {name}", flush=True)))
    starting.add_done_callback(lambda task: task.cancelled() or print("ready", flush=True))
    await stop.wait()
    starting.cancel()
    await family.stop(limit_s=6.0)


asyncio.run(main())
