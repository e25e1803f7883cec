"""What can be wrong with a repository, as values: findings in the front matter and refusals of a whole commit.

A message is one or two sentences that say what is wrong and what to write instead. It is shown unchanged in git's
output, on pages and in the API, so whatever it quotes from the repository goes through `quoted` first.
"""

from dataclasses import dataclass

CONFIG_ERROR = "CONFIG_ERROR"
NO_APP_FILE = "NO_APP_FILE"
BUILD_ERROR = "BUILD_ERROR"

README = "README.md"


@dataclass(frozen=True)
class Finding:
    """One mistake at one place of one file."""

    file: str
    line: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Nothing can be made of this commit. `stage` is the Hub stage that it leads to."""

    stage: str
    code: str
    message: str
    file: str | None = None
    line: int | None = None
    more: tuple[Finding, ...] = ()
    """What else is wrong, where there is room to say it; `summary` only says how much."""

    @property
    def summary(self) -> str:
        """The message, and how many more there are."""
        return f"{self.message} (and {len(self.more)} more)" if self.more else self.message

    @classmethod
    def of(cls, findings: "tuple[Finding, ...] | list[Finding]") -> "Refusal":
        """The refusal that a bad front matter amounts to."""
        first, more = findings[0], tuple(findings[1:])
        return cls(
            stage=CONFIG_ERROR, code=first.code, message=first.message, file=first.file, line=first.line, more=more
        )


def quoted(text: object, limit: int = 60) -> str:
    """Untrusted text, printable, on one line and short."""
    plain = "".join(c if c.isprintable() else "?" for c in str(text)[: limit + 1])
    return f"`{plain[:limit]}…`" if len(plain) > limit else f"`{plain}`"
