"""Tells the orchestrator how a build goes, over its internal API, and hears whether it should go on.

Phases and log lines go out in order from one thread, batched, and are repeated while the API is away, so that building
does not wait for reporting. Any answer of 409 (and a token that is not accepted any more) stops the build at once. A
second thread keeps the lease; the first lease is asked for before anything else is done.

The order's token is only ever put into the Authorization header.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict

import httpx
import structlog

from builder.adapters.control import Control, ShuttingDown, Superseded
from builder.contract import BuildOrder, BuildResult, LogBatch, Phase, PhaseReport

BATCH_S = 0.25
BATCH_LINES_MAX = 500
LINE_CHARS_MAX = 4000
REPEAT_S = 60.0
_LAST_WORDS_S = 3.0
_BACKOFF_S = (0.05, 0.2, 0.5, 1.0, 2.0)
_OVER = frozenset((401, 403, 404, 409, 410))

log = structlog.get_logger()

Line = tuple[float, str]


class InternalApi:
    """The worker's side of the internal API; shared by all builds of the worker."""

    def __init__(self, socket: str) -> None:
        transport = httpx.HTTPTransport(uds=socket, limits=httpx.Limits(max_keepalive_connections=8))
        self._client = httpx.Client(transport=transport, base_url="http://internal", timeout=10.0, trust_env=False)

    def post(self, order: BuildOrder, what: str, body: object, worker: str = "") -> int:
        """The status of the answer; 0 if there was none."""
        try:
            answer = self._client.post(
                f"/internal/builds/{order.build_id}/{what}",
                json=body,
                params={"worker": worker} if worker else None,
                headers={"Authorization": f"Bearer {order.token}"},
            )
        except httpx.HTTPError:
            return 0
        return answer.status_code

    def close(self) -> None:
        self._client.close()


class Reporter:
    """Reports one build. Use it as a context; what is pending when the context ends is sent first."""

    def __init__(
        self, api: InternalApi, order: BuildOrder, control: Control, *, worker: str, lease_s: float, log_bytes_max: int
    ) -> None:
        self._api, self._order, self._control = api, order, control
        self._worker, self._lease_s = worker, lease_s
        self._bytes_left = log_bytes_max
        self._cut = False
        self._queue: deque[Line | PhaseReport] = deque()
        self._wake = threading.Condition()
        self._urgent = self._closing = False
        self._sent_lines = 0

    def take(self) -> None:
        """Take the build. Raises Superseded if it is over or another worker's, or nobody answers."""
        if not self._send("lease", {}, for_s=self._lease_s):
            self._control.stop(Superseded("Nobody answered when the build was to be taken."))
        self._control.check()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=work, daemon=True) for work in (self._send_loop, self._keep_lease)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            with self._wake:
                self._closing = True
                self._wake.notify_all()
            for thread in threads:
                thread.join(timeout=_LAST_WORDS_S)

    def phase(self, phase: Phase, detail: str = "") -> None:
        self._put(PhaseReport(phase=phase.value, at=time.time(), detail=detail), urgent=True)

    def line(self, text: str) -> None:
        """One line of the build's log. Lines past the log's limit are dropped after one that says so."""
        for part in text.splitlines() or [""]:
            self._line(part[:LINE_CHARS_MAX])

    def result(self, result: BuildResult, *, for_s: float) -> bool:
        """Send the end of the build, after everything else. False if it did not arrive."""
        with self._wake:
            self._urgent = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: not self._queue or isinstance(self._control.reason, Superseded), timeout=for_s)
        return self._send("result", asdict(result), for_s=for_s)

    def _line(self, text: str) -> None:
        self._bytes_left -= len(text.encode("utf-8", "replace")) + 32
        if self._bytes_left > 0:
            self._put((time.time(), text))
        elif not self._cut:
            self._cut = True
            self._put((time.time(), "The log is longer than is kept; the rest is left out."))

    def _put(self, item: Line | PhaseReport, *, urgent: bool = False) -> None:
        with self._wake:
            self._queue.append(item)
            self._urgent = self._urgent or urgent
            self._wake.notify_all()

    def _send_loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: bool(self._queue) or self._closing)
                if not self._queue:
                    return
                self._wake.wait_for(lambda: self._urgent or self._closing, timeout=BATCH_S)
                self._urgent = False
                items = list(self._queue)
            self._send_items(items)
            with self._wake:
                for _ in items:
                    self._queue.popleft()
                self._wake.notify_all()

    def _send_items(self, items: list[Line | PhaseReport]) -> None:
        lines: list[Line] = []
        for item in items:
            if isinstance(item, PhaseReport):
                self._send_lines(lines)
                lines = []
                self._send("phase", asdict(item), for_s=REPEAT_S)
            else:
                lines.append(item)
        self._send_lines(lines)

    def _send_lines(self, lines: list[Line]) -> None:
        for start in range(0, len(lines), BATCH_LINES_MAX):
            part = lines[start : start + BATCH_LINES_MAX]
            batch = LogBatch(first=self._sent_lines, lines=tuple(part))
            self._sent_lines += len(part)
            self._send("log", asdict(batch), for_s=REPEAT_S)

    def _keep_lease(self) -> None:
        pause = self._lease_s / 3
        while not self._wait(pause):
            self._send("lease", {}, for_s=0)

    def _wait(self, seconds: float) -> bool:
        """Wait; True if the build ended meanwhile."""
        with self._wake:
            return self._wake.wait_for(lambda: self._closing or self._control.stopped.is_set(), timeout=seconds)

    def _send(self, what: str, body: object, *, for_s: float) -> bool:
        """Send until it arrives, the build is over or the time is up."""
        until = time.monotonic() + for_s
        attempt = 0
        while not isinstance(self._control.reason, Superseded | ShuttingDown):
            status = self._api.post(self._order, what, body, worker=self._worker if what == "lease" else "")
            if status in _OVER:
                self._control.stop(Superseded(f"The orchestrator answered {status}."))
                return False
            if 200 <= status < 300:
                return True
            if time.monotonic() >= until or 400 <= status < 500:
                log.warning("report_lost", build=self._order.build_id, what=what, status=status)
                return False
            time.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
            attempt += 1
        return False
