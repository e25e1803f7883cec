"""The resolver's sentences and locks; the choice of a Python."""

from pathlib import Path

import pytest

from builder.adapters.engines.pythons import Python, parse_list, pick, search_path
from builder.domain.card import Card, read_card
from builder.domain.detect import Recipe
from builder.domain.resolution import explain, lacks_wheels, narrow, packages
from builder.domain.snapshot import first_page, is_lfs_pointer
from builder.failures import BuildFailed, at_sdk_version

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LOCK = f"one==1.0 \\\n    --hash={A} \\\n    --hash={B}\ntwo==2.0 \\\n    --hash={A}\n"


@pytest.mark.parametrize(
    ("said", "code", "retry", "word"),
    [
        (
            "  cause: Because nope was not found in the package registry and you require nope, we",
            "unknown-package",
            False,
            "`nope`",
        ),
        (
            "  cause: Because there is no version of idna==99 and you require idna==99",
            "unknown-version",
            False,
            "idna==99",
        ),
        ("error: No solution found\n  cause: Because a depends on b<1 and", "conflict", False, "Because a depends"),
        ("error: Request failed after 3 retries\n  cause: dns error", "index-away", True, "index"),
        ("error: something else", "install-failed", False, "something else"),
    ],
)
def test_what_the_resolver_says_is_explained(said: str, code: str, retry: bool, word: str) -> None:
    found = explain(said)
    assert (found.code, found.retry) == (code, retry)
    assert word in found.message


TAIL = ", we can conclude that your requirements are unsatisfiable."


def test_what_the_author_wrote_is_not_said_twice() -> None:
    own = explain(f"error: x\n  cause: Because there is no version of idna==99 and you require idna==99{TAIL}")
    assert own.message.endswith("into the requirements.")
    other = explain(
        f"error: x\n  cause: Because there is no version of idna==99 and one==1 depends on idna==99, we can conclude "
        f"that one==1 cannot be used. And because you require one==1{TAIL}"
    )
    assert "one==1 depends on idna==99" in other.message
    assert "unsatisfiable" not in other.message
    clash = explain(f"No solution found\n  cause: Because you require idna==3.4 and idna<3{TAIL}")
    assert clash.message.endswith("Because you require idna==3.4 and idna<3. Loosen one of them.")


@pytest.mark.parametrize(
    ("missing", "line"),
    [("gradio==99.0.0", 4), ("gradio[oauth]==99.0", 4), ("gradio==98.0", None), ("idna==99.0", None)],
)
def test_a_wrong_sdk_version_is_told_at_its_line(missing: str, line: int | None) -> None:
    card = read_card(b"---\ntitle: x\nsdk: gradio\nsdk_version: 99.0\n---\n")
    assert isinstance(card, Card)
    recipe = Recipe(sdk="gradio", app_file="app.py", command=(), why="", sdk_version="99.0", card=card)
    found = explain(f"error: x\n  cause: Because there is no version of {missing} and you require {missing}{TAIL}")
    failure = at_sdk_version(BuildFailed(found.code, found.message), recipe).failure
    assert failure.line == line
    assert ("sdk_version" in failure.message) is (line is not None)


def test_only_missing_wheels_lead_into_the_sandbox() -> None:
    assert lacks_wheels("Because all versions of docopt have no usable wheels and you require docopt")
    assert not lacks_wheels("Because nope was not found in the package registry")
    assert not lacks_wheels("no usable wheels\ndns error")


def test_a_lock_is_narrowed_to_the_hashes_asked_for() -> None:
    narrowed, missing = narrow(LOCK, {"one": frozenset((B,))})
    assert missing is None
    assert narrowed == f"one==1.0 \\\n    --hash={B}\ntwo==2.0 \\\n    --hash={A}\n"
    assert narrow(LOCK, {"two": frozenset((B,))})[1] == "two"
    assert packages(LOCK) == {"one": "1.0", "two": "2.0"}


SYSTEM = Python("3.11.2", Path("/usr/bin/python3.11"))
OTHERS = tuple(
    Python(version, Path(f"/opt/{version}/bin/python3")) for version in ("3.13.1", "3.12.4", "3.12.1", "3.9.1")
)


@pytest.mark.parametrize(
    ("wanted", "version"),
    [(None, "3.11.2"), ("3.12", "3.12.4"), ("3.12.1", "3.12.1"), ("3.9", "3.9.1"), ("3.1", None), ("3.12.9", None)],
)
def test_the_choice_of_a_python(wanted: str | None, version: str | None) -> None:
    found = pick((*OTHERS, SYSTEM), wanted)
    assert (found.version if found else None) == version


def test_without_a_system_python_the_newest_usual_one_is_the_default() -> None:
    newer = Python("3.15.0", Path("/opt/3.15/bin/python3"))
    assert pick((newer, *OTHERS), None) == OTHERS[0]
    assert pick((newer,), None) == newer
    assert pick((OTHERS[-1],), None) is None


def test_shims_and_other_implementations_are_left_out() -> None:
    raw = b"""[{"version": "3.10.1", "path": "/root/.pyenv/shims/python3", "implementation": "cpython"},
               {"version": "3.10.1", "path": "/opt/pypy/bin/pypy", "implementation": "pypy"},
               {"version": "3.14.0", "path": "/opt/t/python", "implementation": "cpython", "variant": "freethreaded"},
               {"version": "3.9.0", "path": "/nowhere/python3", "implementation": "cpython", "variant": "default"}]"""
    assert [python.version for python in parse_list(raw)] == ["3.9.0"]
    assert search_path("/a/shims:/b", Path("/nonexistent")) == "/b:/usr/local/bin:/usr/bin"


def test_first_pages_and_pointers() -> None:
    assert 'url=a%20b/%22x.html"' in first_page('a b/"x.html')
    assert is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid", 130)
    assert not is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid", 5000)
