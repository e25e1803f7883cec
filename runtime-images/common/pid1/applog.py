"""What the app prints, as bounded lines of JSON in a file that only PID 1 can write.

PID 1 does it, because it lives as long as the app: no line is lost while the processes outside are restarted. An app
that prints without end gets its lines dropped, with one line that says how many; it is never blocked by its own log.
"""

import os
import time
from _json import encode_basestring_ascii as encode

LINE_BYTES_MAX = 8192
BURST_BYTES, BYTES_PER_S = 512 << 10, 64 << 10
BURST_LINES, LINES_PER_S = 4000, 500
_READ_BYTES = 1 << 16


class Allowance:
    """Token buckets for lines and bytes."""

    def __init__(self, now: float) -> None:
        self._lines, self._bytes, self._at = float(BURST_LINES), float(BURST_BYTES), now

    def take(self, size: int, now: float) -> bool:
        """Whether a line of `size` bytes may be written now."""
        passed = max(0.0, now - self._at)
        self._at = now
        self._lines = min(BURST_LINES, self._lines + passed * LINES_PER_S)
        self._bytes = min(BURST_BYTES, self._bytes + passed * BYTES_PER_S)
        if self._lines < 1 or self._bytes < size:
            return False
        self._lines -= 1
        self._bytes -= size
        return True


class AppLog:
    """Reads the app's output from a pipe and appends lines to a file."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._rest = b""
        self._cut = False
        self._dropped = 0
        self._allowance = Allowance(time.monotonic())
        os.set_blocking(source, False)

    def pump(self) -> bool:
        """Take what is there, once; False if there was nothing, or the pipe has ended."""
        try:
            data = os.read(self._source, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._take(data)
        return bool(data)

    def finish(self) -> None:
        """Take what is left; at most a burst, since something may go on writing."""
        for _ in range(BURST_BYTES // _READ_BYTES):
            if not self.pump():
                break
        if self._rest:
            self._write(self._lines([self._rest]))
        self._write([self._dropped_line()] if self._dropped else [])

    def _take(self, data: bytes) -> None:
        *whole, rest = (self._rest + data).split(b"\n")
        # A progress bar rewrites its line with carriage returns: the last state is what a terminal would show.
        rest = rest[rest.rfind(b"\r", 0, len(rest) - 1) + 1 :]
        if len(rest) > LINE_BYTES_MAX:
            rest = rest[: LINE_BYTES_MAX + 1]
        self._rest = rest
        self._write(self._lines(whole))

    def _lines(self, raw: "list[bytes]") -> "list[str]":
        now = time.monotonic()
        kept = []
        for line in raw:
            text = _text(line)
            if not self._allowance.take(len(text), now):
                self._dropped += 1
                continue
            if self._dropped:
                kept.append(self._dropped_line())
            kept.append(text)
        return kept

    def _dropped_line(self) -> str:
        count, self._dropped = self._dropped, 0
        limit = f"{LINES_PER_S} lines or {BYTES_PER_S >> 10} KB per second"
        return f"({count} lines dropped: the app printed more than {limit})"

    def _write(self, lines: "list[str]") -> None:
        at = time.time()
        data = "".join(f'{{"t": {at:.3f}, "m": {encode(line)}}}\n' for line in lines).encode()
        try:
            if data:
                os.write(self._target, data)
        except OSError:  # A full disk must not end the app.
            self._dropped += len(lines)


def _text(line: bytes) -> str:
    line = line.rstrip(b"\r")
    line = line[line.rfind(b"\r") + 1 :]
    cut = " ... (cut)" if len(line) > LINE_BYTES_MAX else ""
    return line[:LINE_BYTES_MAX].decode("utf-8", "replace") + cut
