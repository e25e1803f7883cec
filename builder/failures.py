"""The one exception that ends a build with a result: what went wrong, in words for the author.

Adapters translate what they meet (exit codes, texts of tools, full disks) into it; the pipeline makes a Failure of it.
Anything else that reaches the pipeline is a fault of Dormouse.
"""

import errno
import re

from packaging.version import Version

from builder.contract import Failure
from builder.domain.detect import Recipe
from builder.domain.problems import BUILD_ERROR, README, Refusal


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


def at_sdk_version(failed: BuildFailed, recipe: Recipe) -> BuildFailed:
    """A version that does not exist is told where the author wrote it, if that is `sdk_version` in the README."""
    failure = failed.failure
    named = re.search(r"`([\w.-]+)(?:\[[^\]]*\])?==([^`*]+)`", failure.message)
    if failure.code != "unknown-version" or named is None or recipe.sdk_version is None:
        return failed
    if named[1].lower() != recipe.sdk or Version(named[2]) != Version(recipe.sdk_version):
        return failed
    message = (
        f"There is no {recipe.sdk} {recipe.sdk_version}. Write a version that exists into `sdk_version`, or delete "
        "this line to get the newest."
    )
    line = recipe.card.lines.get("sdk_version")
    return BuildFailed(failure.code, message, stage=failure.stage, file=README, line=line)


def broken(message: str) -> BuildFailed:
    """A fault of the platform: another try makes sense."""
    return BuildFailed("platform", message, retry=True)


def of_system(error: OSError) -> BuildFailed:
    """What an unexpected error of the operating system means to the people who read it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildFailed("disk-full", "The disk of this installation is full; its administrator has to make room.")
    return broken(f"The machine refused an operation of the build ({error.strerror or type(error).__name__}).")
