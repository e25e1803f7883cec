"""What happens before the first process is started: key, database, admin.

Every step may be repeated; a start that was interrupted is finished by the next one.
"""

import base64
import os
import secrets
import string
import time
from pathlib import Path

from orchestrator.adapters.database import migrate, open_store
from orchestrator.domain.lifecycle import Stage
from orchestrator.errors import Invalid
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.settings import Settings

ADMIN = "admin"
_AWAKE = (Stage.RUNNING, Stage.RUNNING_BUILDING, Stage.RUNNING_APP_STARTING, Stage.APP_STARTING)
_MARK, _LABEL = "admin_token_made", "first start"
_TOKEN_LENGTH_MIN = 8
_TOKEN_LETTERS = 40


def prepare(settings: Settings) -> str:
    """Bring key, database and admin into being.

    Returns the admin's token if it was made up just now, to be shown once; empty otherwise. Until `shown` is called the
    next start makes another one instead, so that a start that is cut off loses nobody the way in. Raises Refused or
    Unavailable with what to do.
    """
    create_key(settings.data / "key")
    main(settings)
    store = open_store(settings.data / "dormouse.db")
    if store.get_value(_MARK):
        return ""
    chosen = _checked(settings.admin_token)
    token, now = chosen or new_token(), time.time()
    admin = store.find_user(ADMIN) or store.create_user(ADMIN, full_name="Admin", is_admin=True, now=now)
    for unseen in store.list_tokens(admin.id):
        if unseen.label == _LABEL:
            store.revoke_token(admin.id, unseen.id)
    store.add_token(admin.id, token_hash=token_hash(token), label=_LABEL, role="write", now=now)
    if chosen:
        store.set_value(_MARK, "1")
    return "" if chosen else token


def shown(settings: Settings) -> None:
    """The admin's token has been shown: no later start makes one."""
    open_store(settings.data / "dormouse.db").set_value(_MARK, "1")


def new_token() -> str:
    """Letters and digits only, so that a double click takes all of it."""
    return "hf_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_TOKEN_LETTERS))


def main(settings: Settings) -> None:
    """Migrate the database to this version of Dormouse."""
    migrate(settings.data / "dormouse.db")


def awake_apps(settings: Settings) -> int:
    """How many apps the last run left awake, to be started again by this one; static Spaces have no process."""
    spaces = open_store(settings.data / "dormouse.db").spaces_in(_AWAKE)
    return sum(space.sdk != "static" and space.revision_id is not None for space in spaces)


def create_key(path: Path) -> None:
    """The key that secrets are sealed with: made once, complete or not at all, for its owner's eyes alone."""
    if path.exists():
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.urlsafe_b64encode(os.urandom(32)))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)  # Unlike a rename, this never replaces a key that somebody else has made meanwhile.
    except FileExistsError:
        pass
    finally:
        part.unlink()


def _checked(token: str) -> str:
    if token and (len(token) < _TOKEN_LENGTH_MIN or not token.isascii() or not token.isprintable() or " " in token):
        raise Invalid(
            f"DORMOUSE_ADMIN_TOKEN cannot be used: write {_TOKEN_LENGTH_MIN} or more ASCII characters without spaces."
        )
    return token
