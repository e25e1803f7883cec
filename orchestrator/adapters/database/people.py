"""Users and their access tokens. Of a token only the hash is ever here."""

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import delete, exists, or_, select, update

from orchestrator.adapters.database.part import Part, insert_into, new_id
from orchestrator.adapters.database.rows import plain_text, to_token, to_user
from orchestrator.adapters.database.tables import spaces, tokens, users
from orchestrator.domain.names import UserId
from orchestrator.domain.space import Token, User
from orchestrator.errors import Conflict, DormouseError, Missing

_USE_NOTED_EVERY_S = 300.0


class People(Part):
    def create_user(self, name: str, *, full_name: str = "", is_admin: bool = False, now: float) -> User:
        values = {
            "id": new_id(),
            "name": name,
            "name_key": name.lower(),
            "full_name": plain_text(full_name, 200),
            "is_admin": is_admin,
            "created_at": now,
        }
        with self._database.write() as connection:
            statement = insert_into(connection, users).values(values).on_conflict_do_nothing().returning(users)
            row = connection.execute(statement).mappings().one_or_none()
        if row is None:
            raise Conflict(f"There is a user named {name} already: choose another name.")
        return to_user(row)

    def find_user(self, name: str) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.name_key == name.lower())).mappings().one_or_none()
        return to_user(row) if row else None

    def user(self, user_id: UserId) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.id == user_id)).mappings().one_or_none()
        return to_user(row) if row else None

    def list_users(self) -> Sequence[User]:
        with self._database.read() as connection:
            return [to_user(row) for row in connection.execute(select(users).order_by(users.c.name_key)).mappings()]

    def delete_user(self, name: str) -> None:
        key = name.lower()
        with self._database.write() as connection:
            if connection.scalar(select(exists().where(spaces.c.owner_key == key))):
                raise Conflict(f"{name} still owns Spaces: delete them first.")
            if not connection.execute(delete(users).where(users.c.name_key == key)).rowcount:
                raise Missing(f"There is no user named {name}.", kind="other")

    def add_token(
        self,
        user_id: UserId,
        *,
        token_hash: str,
        label: str,
        role: str,
        now: float,
        expires_at: float | None = None,
        parent_id: str | None = None,
    ) -> Token:
        """Also drops the user's expired tokens, so that short-lived ones do not pile up."""
        values = {
            "id": new_id(),
            "user_id": user_id,
            "token_hash": token_hash,
            "label": plain_text(label, 200),
            "role": role,
            "created_at": now,
            "expires_at": expires_at,
            "parent_id": parent_id,
        }
        with self._database.write() as connection:
            connection.execute(delete(tokens).where(tokens.c.user_id == user_id, tokens.c.expires_at <= now))
            statement = insert_into(connection, tokens).values(values).returning(tokens)
            return to_token(connection.execute(statement).mappings().one())

    def find_token(self, token_hash: str, now: float) -> tuple[Token, User] | None:
        """`last_used_at` is noted every few minutes only, and never at the price of the answer."""
        alive = or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
        with self._database.read() as connection:
            found = select(tokens).where(tokens.c.token_hash == token_hash, alive)
            row = connection.execute(found).mappings().one_or_none()
            if row is None:
                return None
            owner = connection.execute(select(users).where(users.c.id == row["user_id"])).mappings().one_or_none()
        if owner is None:
            return None
        if (row["last_used_at"] or 0.0) < now - _USE_NOTED_EVERY_S:
            with suppress(DormouseError), self._database.write() as connection:
                connection.execute(update(tokens).where(tokens.c.id == row["id"]).values(last_used_at=now))
        return to_token(row), to_user(owner)

    def list_tokens(self, user_id: UserId) -> Sequence[Token]:
        statement = select(tokens).where(tokens.c.user_id == user_id).order_by(tokens.c.created_at, tokens.c.id)
        with self._database.read() as connection:
            return [to_token(row) for row in connection.execute(statement).mappings()]

    def revoke_token(self, user_id: UserId, token_id: str) -> None:
        with self._database.write() as connection:
            connection.execute(delete(tokens).where(tokens.c.user_id == user_id, tokens.c.id == token_id))
