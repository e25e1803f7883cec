"""Secrets at rest: sealed with the installation's key, opened with it alone."""

import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.vault import FernetVault
from orchestrator.errors import Refused, Unavailable


def test_what_was_sealed_opens_in_another_process(tmp_path):
    sealed = FernetVault(tmp_path / "key").seal("s3cret ü")
    assert "s3cret" not in sealed
    assert FernetVault(tmp_path / "key").open(sealed) == "s3cret ü"


@given(text=st.text())
def test_every_text_comes_back(tmp_path_factory, text):
    vault = FernetVault(tmp_path_factory.getbasetemp() / "shared-key")
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert vault.open(vault.seal(text)) == text


def test_the_same_secret_never_looks_the_same(tmp_path):
    vault = FernetVault(tmp_path / "key")
    assert vault.seal("x") != vault.seal("x")


def test_the_key_is_for_its_owner_alone_and_nothing_is_left_beside_it(tmp_path):
    FernetVault(tmp_path / "key").seal("x")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_no_key_is_made_before_the_first_use(tmp_path):
    FernetVault(tmp_path / "key")
    assert not (tmp_path / "key").exists()


def test_many_first_uses_at_once_agree_on_one_key(tmp_path):
    barrier = threading.Barrier(8)

    def seal(_):
        vault = FernetVault(tmp_path / "key")
        barrier.wait(timeout=30)
        return vault.seal("x")

    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(seal, range(8)))
    assert [FernetVault(tmp_path / "key").open(text) for text in sealed] == ["x"] * 8
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_another_key_opens_nothing_and_is_named(tmp_path):
    sealed = FernetVault(tmp_path / "one").seal("x")
    with pytest.raises(Unavailable, match="another key"):
        FernetVault(tmp_path / "two").open(sealed)


@pytest.mark.parametrize("junk", ["", "x", "gAAAA", "ü", "\0"])
def test_junk_is_not_opened(tmp_path, junk):
    with pytest.raises(Unavailable):
        FernetVault(tmp_path / "key").open(junk)


@pytest.mark.parametrize("content", ["", "short", "ü" * 44])
def test_a_file_that_holds_no_key_is_never_replaced(tmp_path, content):
    (tmp_path / "key").write_text(content)
    with pytest.raises(Refused, match="backup"):
        FernetVault(tmp_path / "key").seal("x")
    assert (tmp_path / "key").read_text() == content


def test_a_folder_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be used"):
        FernetVault(tmp_path / "file" / "key").seal("x")
