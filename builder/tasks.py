"""The Celery task: read the order, build it, report. Everything else is in the pipeline and its adapters."""

import threading
import time

import celery
import structlog
from celery.exceptions import Reject

from builder import metrics
from builder.adapters.control import Control, ShuttingDown, Stopped
from builder.adapters.reporter import InternalApi, Reporter
from builder.contract import TASK_NAME, BuildOrder, BuildResult, Phase
from builder.pipeline import Build, Tools

log = structlog.get_logger()


class Builder:
    """Builds orders, each in the thread that asks; knows the running ones, so that all can be stopped."""

    def __init__(self, tools: Tools, api: InternalApi, worker: str) -> None:
        self._tools, self._api, self._worker = tools, api, worker
        self._lock = threading.Lock()
        self._running: dict[str, Control] = {}
        self._closed = False

    def build(self, order: BuildOrder) -> None:
        """Build and report. Raises ShuttingDown if the worker ends first."""
        control = Control()
        if not self._enter(order.build_id, control):
            return
        started, outcome = time.monotonic(), "dropped"
        try:
            outcome = self._carry_out(order, control)
        except ShuttingDown:
            raise
        except Stopped as reason:
            log.info("build_dropped", space=order.space, build=order.build_id, reason=str(reason))
        finally:
            self._leave(order.build_id)
            metrics.builds.labels(outcome=outcome).inc()
        took = round(time.monotonic() - started, 3)
        log.debug("build_ended", space=order.space, build=order.build_id, outcome=outcome, took_s=took)

    def stop(self) -> None:
        """End every running build at once, and take no more."""
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        for control in running:
            control.stop(ShuttingDown("The worker ends."))

    def _enter(self, build_id: str, control: Control) -> bool:
        with self._lock:
            if self._closed:
                raise ShuttingDown("The worker ends.")
            if build_id in self._running:
                return False  # The broker delivered the order again while it is being built.
            self._running[build_id] = control
            return True

    def _leave(self, build_id: str) -> None:
        with self._lock:
            del self._running[build_id]

    def _carry_out(self, order: BuildOrder, control: Control) -> str:
        settings = self._tools.settings
        report = Reporter(
            self._api,
            order,
            control,
            worker=self._worker,
            lease_s=settings.build_lease_s,
            log_bytes_max=settings.build_log_bytes_max,
        )
        report.take()
        with report.running():
            result = Build(order=order, tools=self._tools, report=report, control=control).run()
            return self._report(report, result, control)

    def _report(self, report: Reporter, result: BuildResult, control: Control) -> str:
        started = time.monotonic()
        report.phase(Phase.REPORT)
        arrived = report.result(result, for_s=self._tools.settings.fetch_timeout_s)
        outcome = "succeeded" if arrived else "failed"
        metrics.phase_seconds.labels(phase=Phase.REPORT.value, outcome=outcome).observe(time.monotonic() - started)
        if not arrived:
            control.check()
            raise Stopped("The result could not be reported.")
        return "succeeded" if result.image else "failed"


def register(app: celery.Celery, builder: Builder) -> None:
    """The task that carries out orders."""

    @app.task(name=TASK_NAME, acks_late=True, reject_on_worker_lost=True, ignore_result=True)  # type: ignore[untyped-decorator]
    def build(message: dict[str, object]) -> None:
        try:
            order = BuildOrder.from_message(message)
        except (ValueError, TypeError) as error:
            log.warning("order_not_readable", reason=str(error))
            return
        try:
            builder.build(order)
        except ShuttingDown as reason:
            raise Reject(str(reason), requeue=True) from reason
