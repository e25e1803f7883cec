"""`BuildQueue` on Celery. The orchestrator only sends; the task itself lives in `builder/tasks.py`."""

from pathlib import Path
from urllib.parse import quote

import celery
from celery.exceptions import CeleryError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from builder.contract import TASK_NAME, BuildOrder
from orchestrator.errors import Unavailable

QUEUE = "builds"
_PATH_BYTES_MAX = 100
_AWAY = (OperationalError, CeleryError, RedisError, OSError)


def broker_url(socket: Path) -> str:
    """The broker's address for Celery, which takes absolute paths only.

    Where the path is too long for a socket's address it is named by way of the working folder, the run folder.
    """
    path = socket.absolute()
    if len(bytes(path)) > _PATH_BYTES_MAX:
        path = Path("/proc/self/cwd") / socket.name
    return f"redis+socket://{quote(str(path))}"


class CeleryQueue:
    """Orders go to one queue of the broker at `url`, made by `broker_url`."""

    def __init__(self, url: str) -> None:
        self._app = celery.Celery("dormouse", broker=url, set_as_current=False)
        self._app.conf.update(
            task_ignore_result=True,
            broker_connection_retry=False,
            broker_transport_options={"socket_timeout": 2.0, "socket_connect_timeout": 2.0},
        )

    def send(self, order: BuildOrder) -> None:
        try:
            self._app.send_task(TASK_NAME, args=[order.to_message()], queue=QUEUE, retry=False, ignore_result=True)
        except _AWAY as error:
            raise Unavailable(
                f"The broker does not answer ({type(error).__name__}); the build is sent later."
            ) from error

    def workers(self) -> int:
        try:
            return len(self._app.control.ping(timeout=0.7) or [])
        except _AWAY:
            return 0

    def answers(self) -> bool:
        """Whether any worker answers; as soon as one does."""
        try:
            return bool(self._app.control.ping(timeout=0.7, limit=1))
        except _AWAY:
            return False
