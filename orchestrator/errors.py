"""The error tree. Only `web/errors.py` knows status codes; adapters translate foreign errors to these.

DormouseError
├── Refused              the caller asked for something that cannot be: wrong name, missing right, ...
│   ├── Invalid          malformed input
│   ├── NotAllowed       known caller without the right
│   ├── Unauthenticated  no caller, or a bad token
│   ├── Missing          no such thing (or not visible to the caller)
│   └── Conflict         exists already, or changed meanwhile
├── Unavailable          try again later: `retry_after_s`
└── Bug                  an invariant of ours is broken
"""


class DormouseError(Exception):
    """Base of all errors of Dormouse; `str(error)` is a sentence that may be shown to the caller."""


class Refused(DormouseError):
    """The request cannot be carried out as it stands; repeating it will not help."""


class Invalid(Refused):
    """Malformed input. The message says what to write instead."""


class NotAllowed(Refused):
    """The caller is known and may see the thing, but may not do this."""


class Unauthenticated(Refused):
    """No valid credentials were given."""


class Missing(Refused):
    """No such thing, or none that the caller may see. `kind` is repo, revision, entry or other."""

    def __init__(self, message: str, kind: str = "repo") -> None:
        super().__init__(message)
        self.kind = kind


class Conflict(Refused):
    """The thing exists already or changed meanwhile; `url` names it where there is one."""

    def __init__(self, message: str, url: str | None = None) -> None:
        super().__init__(message)
        self.url = url


class Unavailable(DormouseError):
    """A part is away for the moment."""

    def __init__(self, message: str, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Bug(DormouseError):
    """An invariant of Dormouse does not hold."""
