"""Times as the Hub's clients read them: UTC, to the millisecond, with a `Z`. Any other form makes them fail."""

from datetime import UTC, datetime


def zulu(at: float) -> str:
    """`2026-01-31T12:00:00.000Z`; a time out of range becomes the nearest that can be written."""
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        when = datetime.fromtimestamp(0, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z"


def maybe_zulu(at: float | None) -> str | None:
    """The same, and None for no time."""
    return None if at is None else zulu(at)
