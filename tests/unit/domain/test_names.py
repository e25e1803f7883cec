"""Names: what a Space, an owner and a host may be called."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.domain.names import (
    HOST_LABEL_MAX,
    RESERVED_OWNERS,
    SpaceName,
    check_owner,
    check_part,
    host_label,
    is_sha,
    parse_space_name,
)
from orchestrator.errors import Invalid

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PARTS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,95}", fullmatch=True).filter(
    lambda text: not text.endswith(("-", ".", ".git")) and "--" not in text and ".." not in text
)
OWNERS = PARTS.filter(lambda text: text.lower() not in RESERVED_OWNERS)
SPACES = st.builds(SpaceName, OWNERS, PARTS)


@pytest.mark.parametrize(
    ("owner", "name", "label"),
    [
        ("alice", "app", "alice-app"),
        ("Alice", "My.App_2", "alice-my-app-2"),
        ("a_b", "_x", "a-b--x"),
        ("_", "_", "space"),
        ("_a", "b_", "a-b"),
    ],
)
def test_the_label_is_the_hubs(owner, name, label):
    assert host_label(SpaceName(owner, name)) == label


@given(space=SPACES, clash=st.booleans())
def test_every_space_gets_a_label_that_dns_allows(space, clash):
    label = host_label(space, clash=clash)
    assert DNS_LABEL.fullmatch(label)
    assert len(label) <= HOST_LABEL_MAX
    assert label == host_label(space, clash=clash)


@given(space=SPACES)
def test_a_short_label_is_the_rule_itself_and_a_long_one_begins_with_it(space):
    rule = re.sub(r"[^a-z0-9]", "-", f"{space.owner}-{space.name}".lower()).strip("-") or "space"
    label = host_label(space)
    if len(rule) <= HOST_LABEL_MAX:
        assert label == rule
    else:
        assert re.fullmatch(r"[0-9a-f]{8}", label[-8:])
        assert rule.startswith(label[:-9])


@given(one=SPACES, two=SPACES)
def test_labels_after_a_clash_differ(one, two):
    assume(one != two)
    assert host_label(one, clash=True) != host_label(two, clash=True)


def test_names_that_share_a_rule_differ_after_a_clash():
    spaces = [SpaceName("a-b", "c"), SpaceName("a", "b-c"), SpaceName("a", "b.c"), SpaceName("A", "b-c")]
    assert {host_label(space) for space in spaces} == {"a-b-c"}
    assert len({host_label(space, clash=True) for space in spaces}) == 4


@given(owner=OWNERS, name=PARTS)
def test_a_valid_id_is_parsed_as_it_is(owner, name):
    assert parse_space_name(f"{owner}/{name}") == SpaceName(owner, name)
    assert str(SpaceName(owner, name)) == f"{owner}/{name}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-a",
        ".a",
        "a-",
        "a.",
        "a--b",
        "a..b",
        "app.git",
        "a" * 97,
        "a b",
        "a/b",
        "a\n",
        "a\0",
        "ä",
        "../etc",
        "%2e",
        "a?b",
        "a:b",
        "<b>",
    ],
)
def test_what_is_no_name_is_refused_with_the_rule(text):
    with pytest.raises(Invalid, match="1 to 96"):
        check_part(text, "Space")
    with pytest.raises(Invalid):
        check_owner(text)
    with pytest.raises(Invalid):
        parse_space_name(f"alice/{text}")


@given(text=st.text(max_size=200))
def test_any_text_is_taken_as_it_is_or_refused(text):
    try:
        assert check_part(text, "Space") == text
    except Invalid:
        return
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,96}", text)


@pytest.mark.parametrize("word", sorted(RESERVED_OWNERS))
def test_a_word_of_our_addresses_is_no_owner(word):
    for text in (word, word.upper(), word.title()):
        with pytest.raises(Invalid, match="reserved"):
            check_owner(text)
        with pytest.raises(Invalid, match="reserved"):
            parse_space_name(f"{text}/app")
    assert parse_space_name(f"alice/{word}") == SpaceName("alice", word)


def test_words_that_our_pages_need_are_reserved_and_the_first_user_is_not():
    assert {"api", "spaces", "login", "logout", "settings", "internal", "metrics"} <= RESERVED_OWNERS
    assert check_owner("admin") == "admin"


@pytest.mark.parametrize("text", ["alice", "alice/", "/app", "a/b/c", "/", "alice//app"])
def test_an_id_has_two_parts(text):
    with pytest.raises(Invalid):
        parse_space_name(text)


def test_a_long_text_is_not_repeated_in_full():
    with pytest.raises(Invalid) as caught:
        check_part("x" * 100_000, "Space")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 40, True),
        ("A" * 40, False),
        ("a" * 39, False),
        ("a" * 41, False),
        ("g" * 40, False),
        ("a" * 40 + "\n", False),
    ],
)
def test_a_full_commit_id(text, expected):
    assert is_sha(text) is expected
