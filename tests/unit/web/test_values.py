"""The small pure parts of the web layer."""

import asyncio
import gzip
import json
import math
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.git import objects
from orchestrator.errors import Invalid, Unavailable
from orchestrator.web import errors
from orchestrator.web.api.common import flag, whole
from orchestrator.web.dates import maybe_zulu, zulu
from orchestrator.web.git_process import _Packets, packet, unzipped
from orchestrator.web.lanes import Lane
from orchestrator.web.responses import Json, plain
from orchestrator.web.sessions import TRIES_MAX, TRIES_PERIOD_S, Tries, safe_target


@given(st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 4e9))
def test_dates_are_what_clients_parse(at: float) -> None:
    text = zulu(at)
    assert text.endswith("Z")
    parsed = datetime.fromisoformat(text)
    if 0 <= at < 4e9:
        assert abs(parsed.timestamp() - at) < 0.002


def test_no_date() -> None:
    assert maybe_zulu(None) is None
    assert zulu(1.5) == "1970-01-01T00:00:01.500Z"


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers() | st.text(), inner, max_size=4),
)


@given(JUNK)
def test_front_matter_always_becomes_json(value: object) -> None:
    text = Json(plain(value)).body
    json.loads(text, parse_constant=pytest.fail)


def test_half_characters_and_endless_nesting_become_json() -> None:
    assert Json({"a": "\ud800"}).body == b'{"a":"?"}'
    nested: list[object] = []
    nested.append(nested)
    assert Json(plain(nested)).body.startswith(b"[[[")
    assert plain(math.nan) is None


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 50))
def test_packets_are_never_cut(contents: list[bytes], size: int) -> None:
    whole_stream = b"".join(packet(content) for content in contents) + b"0000"
    cutter = _Packets()
    ends, position = {0}, 0
    for content in contents:
        position += len(packet(content))
        ends.add(position)
    ends.add(position + 4)
    passed = b""
    for start in range(0, len(whole_stream), size):
        passed += cutter.whole(whole_stream[start : start + size])
        assert len(passed) in ends
    assert passed + cutter.rest == whole_stream
    assert cutter.rest == b""


@given(st.binary(max_size=5000), st.integers(1, 400))
def test_unzipped(content: bytes, size: int) -> None:
    packed = gzip.compress(content)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), size):
            yield packed[start : start + size]

    async def read() -> bytes:
        return b"".join([piece async for piece in unzipped(pieces())])

    assert asyncio.run(read()) == content


@given(st.text())
def test_signing_in_leads_to_our_own_pages(target: str) -> None:
    safe = safe_target(target)
    assert safe.startswith("/")
    assert not safe.startswith(("//", "/\\"))
    assert safe in (target, "/")


def test_wrong_tries_are_counted_per_address_and_forgotten() -> None:
    tries = Tries()
    for _ in range(TRIES_MAX):
        tries.check("a", 0.0)
        tries.wrong("a", 0.0)
    with pytest.raises(errors.TooMany):
        tries.check("a", 1.0)
    tries.check("b", 1.0)
    tries.check("a", TRIES_PERIOD_S)
    for number in range(20_000):
        tries.wrong(str(number), 0.0)
    assert len(tries._known) <= 10_000


async def test_a_lane_has_so_many_places_and_so_many_for_each() -> None:
    lane = Lane("things", total=3, each=2)
    async with lane.place("a"), lane.place("a"):
        with pytest.raises(Unavailable, match="Too many things"):
            async with lane.place("a"):
                pass
        async with lane.place("b"):
            with pytest.raises(Unavailable):
                async with lane.place("c"):
                    pass
    assert lane.held == 0


async def test_places_are_handed_on_in_order_and_never_lost() -> None:
    lane, order = Lane("things", total=1, each=1), list[int]()

    async def come(number: int) -> None:
        async with lane.place(str(number), wait_s=5):
            order.append(number)

    async with lane.place("first"):
        tasks = [asyncio.create_task(come(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
    # Given to the first in line, who is gone before he knows it.
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [2, 3]
    assert lane.held == 0


@given(st.text(max_size=30))
def test_revisions_never_become_options_or_expressions(revision: str) -> None:
    for name in objects.candidates(revision):
        assert not name.startswith("-")
        assert not set(name) & set("~^:?*[\\ \n\0")
        assert "@{" not in name
        assert ".." not in name


@given(st.text(alphabet="/.ab\0", max_size=12))
def test_paths_in_trees(path: str) -> None:
    clean = objects.check_path(path)
    if clean:
        assert not {"", ".", ".."} & set(clean.split("/"))
        assert "\0" not in clean


@pytest.mark.parametrize("value", [True, 1.5, "1", [], 1 << 60])
def test_numbers_must_be_whole(value: object) -> None:
    with pytest.raises(Invalid):
        whole({"n": value}, "n")


def test_flags_of_all_clients() -> None:
    assert all(flag(value) for value in (True, "true", "True", "1"))
    assert not any(flag(value) for value in (False, None, "false", "0", "", 1, [], {}))
