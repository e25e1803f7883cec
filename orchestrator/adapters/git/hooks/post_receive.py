"""Git runs this after a push: tells Dormouse which refs moved, and prints what Dormouse answers to the author.

It runs as a process of its own with the standard library only, in the folder of the repository, with three variables
from Dormouse. The push has happened already, so nothing here may fail: where Dormouse cannot be asked, the author is
told that it will find the commit by itself.
"""

import http.client
import json
import os
import pathlib
import socket
import sys

TIMEOUT_S = 30.0
UPDATES_MAX = 1000


class InternalConnection(http.client.HTTPConnection):
    """HTTP over the internal API's socket; its name is relative, since a socket's path must be short."""

    def connect(self) -> None:
        os.chdir(os.environ["DORMOUSE_RUN"])
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect("internal.sock")


def updates(lines: "list[str]") -> "list[dict[str, str]]":
    """What git says on standard input: `old new ref` per line."""
    parts = [line.split() for line in lines[:UPDATES_MAX]]
    return [{"ref": ref, "old": old, "new": new} for old, new, ref in (part for part in parts if len(part) == 3)]


def ask(moved: "list[dict[str, str]]") -> "list[str]":
    """The lines that the author should read."""
    message = {
        "space_id": os.environ["DORMOUSE_SPACE_ID"],
        "user_id": os.environ.get("DORMOUSE_USER_ID", ""),
        "updates": moved,
    }
    connection = InternalConnection("internal", timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/internal/git/received", json.dumps(message), {"content-type": "application/json"})
        response = connection.getresponse()
        body = response.read(1 << 20)
        if response.status != 200:
            raise OSError(f"status {response.status}")
        return [str(line) for line in json.loads(body)["lines"]]
    finally:
        connection.close()


def leave_note() -> pathlib.Path:
    """A file that says "this Space was pushed to": whatever ends this process, the controller finds it."""
    folder = (pathlib.Path(os.environ["DORMOUSE_RUN"]).parent / "received").resolve()
    folder.mkdir(mode=0o700, exist_ok=True)
    note = folder / os.environ["DORMOUSE_SPACE_ID"]
    note.touch()
    return note


def main() -> None:
    moved = updates(sys.stdin.read(1 << 20).splitlines())
    try:
        note = leave_note()
        lines = ask(moved)
        note.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        lines = ["The push is stored. Dormouse is busy right now and will pick it up by itself."]
    for line in lines:
        # Control characters would reach the author's terminal.
        print("".join(char if char.isprintable() else " " for char in line), flush=True)


if __name__ == "__main__":
    main()
