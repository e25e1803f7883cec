"""Packs of some kilobytes that ask git for gigabytes: refused with a sentence, in bounded memory."""

import functools
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest

from builder.adapters.control import Control
from builder.adapters.source import Repository
from builder.domain.tree import Entry, Kind
from builder.failures import BuildFailed
from orchestrator.domain.space import Space
from tests.support.git import git, push_files
from tests.support.web_world import WebWorld, web_world

BASE = 16 << 20
COPIES = 192
COMMIT, TREE, BLOB, REF_DELTA = 1, 2, 3, 7


def _head(kind: int, size: int) -> bytes:
    out, byte = bytearray(), (kind << 4) | (size & 15)
    size >>= 4
    while size:
        out.append(byte | 128)
        byte, size = size & 127, size >> 7
    return bytes([*out, byte])


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _id(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).digest()


@dataclass(frozen=True)
class Bomb:
    """A pack with one commit, whose only file is many times a base of zeros."""

    commit: str
    blob: str
    """Made up: nobody gets so far as to check it."""
    pack: bytes
    index: bytes


@functools.cache
def bomb() -> Bomb:
    base, blob = bytes(BASE), hashlib.sha1(b"boom").digest()
    copy = b"\xf0" + (0xFFFFFF).to_bytes(3, "little") + b"\x90\x01"  # The base's size takes two instructions.
    delta = _number(BASE) + _number(BASE * COPIES) + copy * COPIES
    tree = b"100644 big\0" + blob
    who = b"ann <ann@example.com> 1700000000 +0000"
    commit = b"tree %s\nauthor %s\ncommitter %s\n\nboom\n" % (_id("tree", tree).hex().encode(), who, who)
    objects = [
        (_id("commit", commit), _head(COMMIT, len(commit)) + zlib.compress(commit)),
        (_id("tree", tree), _head(TREE, len(tree)) + zlib.compress(tree)),
        (_id("blob", base), _head(BLOB, BASE) + zlib.compress(base)),
        (blob, _head(REF_DELTA, len(delta)) + _id("blob", base) + zlib.compress(delta)),
    ]
    pack, rows = b"PACK" + struct.pack(">II", 2, len(objects)), []
    for oid, content in objects:
        rows.append((oid, zlib.crc32(content), len(pack)))
        pack += content
    pack += hashlib.sha1(pack).digest()
    return Bomb(_id("commit", commit).hex(), blob.hex(), pack, _index(sorted(rows), pack[-20:]))


def _index(rows: list[tuple[bytes, int, int]], check: bytes) -> bytes:
    """What `git index-pack` would write, had it the memory."""
    out = b"\xfftOc" + struct.pack(">I", 2)
    out += b"".join(struct.pack(">I", sum(oid[0] <= first for oid, _, _ in rows)) for first in range(256))
    out += b"".join(oid for oid, _, _ in rows)
    out += b"".join(struct.pack(">I", crc) for _, crc, _ in rows) + b"".join(struct.pack(">I", at) for _, _, at in rows)
    return out + check + hashlib.sha1(out + check).digest()


def plant(folder: Path) -> Bomb:
    """Put the bomb into a repository as if it had come in before there was a limit."""
    made = bomb()
    path = folder / "objects" / "pack" / f"pack-{made.pack[-20:].hex()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".pack").write_bytes(made.pack)
    path.with_suffix(".idx").write_bytes(made.index)
    return made


class Peak:
    """The largest resident size of any git below this process, looked at often."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for process in psutil.process_iter(["name", "memory_info"]):
                if process.info["name"] == "git" and process.info["memory_info"]:
                    self.bytes = max(self.bytes, process.info["memory_info"].rss)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world() as served:
        yield served


def test_a_push_that_takes_gigabytes_is_refused_with_a_sentence(world: WebWorld, tmp_path: Path) -> None:
    world.create("ann/bombed")
    made = bomb()
    assert len(made.pack) < 20_000
    request = f"{'0' * 40} {made.commit} refs/heads/boom\0 report-status side-band-64k agent=x".encode()
    body = f"{len(request) + 4:04x}".encode() + request + b"0000" + made.pack
    kind = {"content-type": "application/x-git-receive-pack-request"}
    with Peak() as peak:
        answer = httpx.post(
            f"{world.remote('ann/bombed')}/git-receive-pack", content=body, headers=kind, timeout=120,
            auth=("ann", world.tokens["ann"]),
        )  # fmt: skip
    assert answer.status_code == 200
    assert b"\x02Unpacking this push takes git more memory than it may have" in answer.content
    assert b"unpack unpack-objects abnormal exit" in answer.content or b"unpack index-pack" in answer.content
    assert peak.bytes < 300 << 20
    assert world.context.repositories.resolve(world.space("ann/bombed").id, "boom") is None


@pytest.fixture
def planted(world: WebWorld) -> tuple[Space, str]:
    """A repository that holds the bomb already."""
    name = f"ann/planted-{os.urandom(4).hex()}"
    space = world.create(name)
    folder = Path(world.context.repositories.path(space.id))
    git("update-ref", "refs/heads/boom", plant(folder).commit, cwd=folder)
    return space, name


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-0"}, {"range": "bytes=-1"}])
def test_reading_it_is_an_answer_not_a_broken_stream(
    world: WebWorld, planted: tuple[Space, str], headers: dict[str, str]
) -> None:
    address = f"{world.url}/spaces/{planted[1]}/resolve/boom/big"
    with Peak() as peak:
        answer = httpx.get(address, headers=headers, timeout=60)
    assert answer.status_code == 413
    assert "larger than the 1024 MiB" in answer.json()["error"]
    assert peak.bytes < 300 << 20


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-0"}])
def test_it_is_told_too_where_files_may_be_large(
    planted: tuple[Space, str], world: WebWorld, headers: dict[str, str]
) -> None:
    object.__setattr__(world.context.settings, "repo_bytes_max", 1 << 33)
    try:
        with Peak() as peak:
            answer = httpx.get(f"{world.url}/spaces/{planted[1]}/resolve/boom/big", headers=headers, timeout=60)
    finally:
        object.__setattr__(world.context.settings, "repo_bytes_max", 1 << 30)
    assert answer.status_code == 400
    assert "packed as a difference to another one" in answer.json()["error"]
    assert peak.bytes < 300 << 20


def test_a_worker_that_meets_it_says_so_in_bounded_memory(tmp_path: Path) -> None:
    git("init", "-q", "--bare", ".", cwd=tmp_path)
    made = plant(tmp_path)
    repository = Repository(tmp_path, made.commit, Control(), 100)
    with Peak() as peak, repository.reading(), pytest.raises(BuildFailed):
        repository.read(Entry(Kind.FILE, BASE * COPIES, made.blob), 100)
    assert peak.bytes < 300 << 20


def test_large_files_that_are_whole_still_pass(world: WebWorld, tmp_path: Path) -> None:
    world.create("ann/large")
    content = os.urandom(1 << 20) * 40
    push_files(world.remote("ann/large", "ann"), {"app.py": "", "model.bin": content}, message="large")
    space = world.space("ann/large")
    entry = world.context.repositories.entry(space.id, "main", "model.bin")
    assert entry is not None
    address = f"{world.url}/spaces/ann/large/resolve/main/model.bin"
    got = httpx.get(address, timeout=60)
    part = httpx.get(address, headers={"range": "bytes=39999990-40000009"})
    assert got.content == content
    assert part.content == content[39_999_990:40_000_010]
    bare, sha = Path(world.context.repositories.path(space.id)), world.context.repositories.resolve(space.id, "main")
    repository = Repository(bare, str(sha), Control(), 100)
    with repository.reading():
        assert b"".join(repository.chunks(repository.listing()["model.bin"])) == content
