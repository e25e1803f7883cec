"""`BuildQueue` on Celery. The orchestrator only sends; the task itself lives in `builder/tasks.py`."""

import celery
from celery.exceptions import CeleryError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from builder.contract import TASK_NAME, BuildOrder
from orchestrator.errors import Unavailable

QUEUE = "builds"
_AWAY = (OperationalError, CeleryError, RedisError, OSError)


class CeleryQueue:
    """Orders go to one queue of the broker at `url`, such as `redis+socket:///redis.sock`."""

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
