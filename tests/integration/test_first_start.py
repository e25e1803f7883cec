"""The admin's first token is shown, or made anew."""

from pathlib import Path

from orchestrator.adapters.database import open_store
from orchestrator.settings import Settings
from orchestrator.supervisor import first_start


def test_a_token_that_nobody_saw_is_replaced(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    unseen, seen = first_start.prepare(settings), first_start.prepare(settings)
    assert unseen != seen
    first_start.shown(settings)
    assert first_start.prepare(settings) == ""
    store = open_store(tmp_path / "dormouse.db")
    admin = store.find_user("admin")
    assert admin is not None
    assert len(store.list_tokens(admin.id)) == 1, "the token that nobody saw opens nothing"


def test_a_chosen_token_is_not_shown(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, admin_token="hf_chosen_by_the_admin")
    assert first_start.prepare(settings) == ""
    assert first_start.prepare(settings) == ""
