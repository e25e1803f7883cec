"""Envoy's reports -> when each Space was last active, and when it last moved real bytes. Pure: time is passed in.

Two sources. Load reports say per cluster how many requests began since the last report and how many are in progress.
The byte log says per open stream how many bytes it has carried since it began; only streams older than one interval
are in it, so an idle tab is in it and a short request is not.

*Active*: a request began, or any stream is open. *Moved*: a request began, or a stream moved more than keep-alives
(a Gradio heartbeat is some 30 bytes in 15 s, a ping and its pong about 8). Both only ever rise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

KEEPALIVE_BYTES = 64
KEEPALIVE_BYTES_PER_S = 16
_SILENT_INTERVALS = 3
_FRESH_INTERVALS = 1.5
_FRESH_EXTRA_S = 1.5
"""Entries are sent in batches, up to a second late."""


@dataclass
class _Stream:
    host: str
    total: int
    seen_at: float
    moved_at: float


@dataclass(frozen=True)
class Tabs:
    """Streams of one host that are open now and older than one interval of the byte log."""

    idle: int
    """Those that have moved nothing but keep-alives for longer than the limit."""
    busy: int


@dataclass(frozen=True)
class News:
    """What has risen since it was last confirmed: host -> time."""

    active: Mapping[str, float]
    moved: Mapping[str, float]

    def __bool__(self) -> bool:
        return bool(self.active or self.moved)


class ActivityBook:
    """Last-activity times of the hosts of one gateway. `interval_s` is that of the byte log."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._streams: dict[str, _Stream] = {}
        self._active: dict[str, float] = {}
        self._moved: dict[str, float] = {}
        self._confirmed_active: dict[str, float] = {}
        self._confirmed_moved: dict[str, float] = {}

    def request(self, host: str, now: float) -> None:
        """A request for `host` began."""
        _raise(self._active, host, now)
        _raise(self._moved, host, now)

    def load(self, host: str, *, issued: int, in_progress: int, now: float) -> None:
        """One line of a load report."""
        if issued > 0:
            self.request(host, now)
        elif in_progress > 0:
            _raise(self._active, host, now)

    def stream(self, stream_id: str, host: str, total: int, now: float) -> None:
        """One entry of the byte log: this stream has carried `total` bytes since it began."""
        before = self._streams.get(stream_id)
        if before is None:
            before = _Stream(host, 0, now - self.interval_s, now - self.interval_s)
        moved = total - before.total > KEEPALIVE_BYTES + KEEPALIVE_BYTES_PER_S * (now - before.seen_at)
        self._streams[stream_id] = _Stream(host, total, now, now if moved else before.moved_at)
        _raise(self._active, host, now)
        if moved:
            _raise(self._moved, host, now)

    def tabs(self, host: str, *, idle_after_s: float, now: float) -> Tabs:
        """The open streams of `host`, told apart by what they have moved."""
        fresh = self.interval_s * _FRESH_INTERVALS + _FRESH_EXTRA_S
        open_now = [s for s in self._streams.values() if s.host == host and now - s.seen_at <= fresh]
        idle = sum(now - stream.moved_at > idle_after_s for stream in open_now)
        return Tabs(idle, len(open_now) - idle)

    def forget_ended(self, now: float) -> None:
        """Drop streams that make no entries any more: the byte log has none for an end."""
        limit = self.interval_s * _SILENT_INTERVALS + _FRESH_EXTRA_S
        self._streams = {key: stream for key, stream in self._streams.items() if now - stream.seen_at <= limit}

    def news(self) -> News:
        """What `confirm` has not been told yet."""
        return News(_newer(self._active, self._confirmed_active), _newer(self._moved, self._confirmed_moved))

    def confirm(self, news: News) -> None:
        """The control plane has taken `news` over."""
        self._confirmed_active.update(news.active)
        self._confirmed_moved.update(news.moved)

    def forget_host(self, host: str) -> None:
        """The host is withdrawn and all about it has been confirmed."""
        for book in (self._active, self._moved, self._confirmed_active, self._confirmed_moved):
            book.pop(host, None)


def _raise(book: dict[str, float], host: str, now: float) -> None:
    book[host] = max(now, book.get(host, now))


def _newer(book: Mapping[str, float], confirmed: Mapping[str, float]) -> dict[str, float]:
    return {host: at for host, at in book.items() if at > confirmed.get(host, 0.0)}
