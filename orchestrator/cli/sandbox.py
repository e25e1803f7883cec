"""`python -m orchestrator.cli.sandbox DATA`: try the sandbox and print what works as JSON.

In a process of its own, because root's trial takes place in a private mount namespace that is never left again.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

from builder.sandbox.probe import probe
from builder.sandbox.view import make_view

_TRIAL_UID = 64_000


def main(data: Path) -> None:
    """Print the findings."""
    view, reason = make_view([data, Path(sys.prefix)])
    found = probe(view, None if os.geteuid() else _TRIAL_UID)
    print(json.dumps({**dataclasses.asdict(found), "view": reason}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
