"""The process runtime: apps as sandboxed processes of this machine, held by the runner."""

from orchestrator.adapters.runtimes.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
