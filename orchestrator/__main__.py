"""`python -m orchestrator PROCESS`: the one way every process of the control plane is started.

It reads the settings, sets up logging, and hands over to the process's `main`. Nothing is imported for a process that
it does not run, so that each starts fast and none carries another's memory.
"""

import asyncio
import importlib
import inspect
import sys

import structlog

from orchestrator import log, settings
from orchestrator.errors import DormouseError

PROCESSES = {
    "api": "orchestrator.web.main",
    "controller": "orchestrator.controller.main",
    "agent": "orchestrator.gateway.main",
    "runner": "orchestrator.runner.main",
    "egress": "orchestrator.runner.egress",
    "migrate": "orchestrator.supervisor.first_start",
}


def run(process: str) -> int:
    """Run one process until it ends by itself or by a signal; the exit status."""
    try:
        chosen = settings.load()
        log.configure(process, level=chosen.log_level)
        main = importlib.import_module(PROCESSES[process]).main
        if inspect.iscoroutinefunction(main):
            asyncio.run(main(chosen))
        else:
            main(chosen)
    except DormouseError as error:
        structlog.get_logger().error("cannot_run", reason=str(error))
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PROCESSES:
        sys.exit(f"usage: python -m orchestrator {'|'.join(PROCESSES)}")
    sys.exit(run(sys.argv[1]))
