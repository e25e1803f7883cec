"""The one exception that ends a build with a result: what went wrong, in words for the author.

Adapters translate what they meet (exit codes, texts of tools, full disks) into it; the pipeline makes a Failure of it.
Anything else that reaches the pipeline is a fault of Dormouse.
"""

import errno

from builder.contract import Failure
from builder.domain.problems import BUILD_ERROR, Refusal


class BuildFailed(Exception):
    def __init__(
        self,
        code: str,
        message: str,
        *,
        stage: str = BUILD_ERROR,
        file: str | None = None,
        line: int | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(stage=stage, code=code, message=message, file=file, line=line, retry=retry)


def refused(refusal: Refusal) -> BuildFailed:
    return BuildFailed(refusal.code, refusal.message, stage=refusal.stage, file=refusal.file, line=refusal.line)


def broken(message: str) -> BuildFailed:
    """A fault of the platform: another try makes sense."""
    return BuildFailed("platform", message, retry=True)


def of_system(error: OSError) -> BuildFailed:
    """What an unexpected error of the operating system means to the people who read it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildFailed("disk-full", "The disk of this installation is full; its administrator has to make room.")
    return broken(f"The machine refused an operation of the build ({error.strerror or type(error).__name__}).")
