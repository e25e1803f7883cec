"""Secrets at rest, encrypted with Fernet under one key of the installation.

The key lies in a file of its own, readable by its owner alone, so that a copy of the database opens nothing. It is
made at the first use and put in place by a hard link: of two processes that make one at once the first wins and both
use it, and a crash never leaves half a key. It must never be replaced: what was sealed with it would be lost.
"""

import hmac
import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from orchestrator.errors import Refused, Unavailable

_SIGNATURES = b"dormouse signatures"
"""What the key of signatures is derived for: the key of the secrets itself signs nothing."""


@dataclass(frozen=True)
class _Keys:
    seal: Fernet = field(repr=False)
    sign: bytes = field(repr=False)


class FernetVault:
    """Implements `orchestrator.ports.vault.Vault`; may be used by several threads."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._keys: _Keys | None = None
        self._first_use = threading.Lock()

    def seal(self, text: str) -> str:
        return self._key().seal.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        try:
            return self._key().seal.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise Unavailable(
                f"A secret was sealed with another key than that in {self._key_file}: put the old key back, or set "
                f"the secret anew."
            ) from error

    def sign(self, message: bytes) -> bytes:
        return hmac.digest(self._key().sign, message, "sha256")

    def _key(self) -> _Keys:
        with self._first_use:
            if self._keys is None:
                self._keys = _load(self._key_file)
            return self._keys


def _load(path: Path) -> _Keys:
    try:
        if not path.exists():
            _create(path)
        key = path.read_bytes().strip()
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise Refused(f"The key file {path} cannot be used ({reason}): check its owner and permissions.") from error
    try:
        return _Keys(Fernet(key), hmac.digest(key, _SIGNATURES, "sha256"))
    except ValueError as error:
        raise Refused(f"{path} holds no key of Dormouse: restore it from a backup.") from error


def _create(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # Another process was first; its key is the key.
    finally:
        draft.unlink()
