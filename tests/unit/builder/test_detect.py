"""What a commit is, from its front matter or from its files."""

from collections.abc import Mapping

import pytest

from builder.domain.detect import Recipe, examine
from builder.domain.problems import Refusal
from builder.domain.tree import BadListing, Entry, Kind, parse_listing

GRADIO = "import gradio as gr\ngr.Interface(str, 'text', 'text').launch()\n"
STREAMLIT = "import streamlit as st\nst.title('x')\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
RAW_ASGI = "async def app(scope, receive, send):\n    pass\n"


def look(files: Mapping[str, str | bytes], links: tuple[str, ...] = ()) -> Recipe | Refusal:
    raw = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    listing = {path: Entry(Kind.FILE, len(content), "0" * 40) for path, content in raw.items()}
    listing |= {path: Entry(Kind.LINK, 5, "0" * 40) for path in links}
    return examine(listing, raw.__getitem__)[1]


def recipe(files: Mapping[str, str | bytes]) -> Recipe:
    found = look(files)
    assert isinstance(found, Recipe), found
    return found


def refusal(files: Mapping[str, str | bytes], links: tuple[str, ...] = ()) -> Refusal:
    found = look(files, links)
    assert isinstance(found, Refusal), found
    return found


def readme(*lines: str) -> str:
    return "\n".join(["---", *lines, "---", ""])


@pytest.mark.parametrize(
    ("files", "sdk", "command"),
    [
        ({"README.md": readme("sdk: gradio"), "app.py": GRADIO}, "gradio", ("{python}", "app.py")),
        ({"README.md": readme("sdk: gradio", "app_file: s/x.py"), "s/x.py": ""}, "gradio", ("{python}", "s/x.py")),
        ({"README.md": readme("sdk: gradio"), "app.py": FASTAPI}, "gradio", ("{python}", "app.py")),
        ({"README.md": readme("sdk: gradio"), "app.py": b"\xff not python"}, "gradio", ("{python}", "app.py")),
        ({"README.md": readme("app_file: -m.py"), "-m.py": GRADIO}, "gradio", ("{python}", "./-m.py")),
        ({"app.py": GRADIO}, "gradio", ("{python}", "app.py")),
        ({"app.py": "from ui import demo\ndemo.launch()", "requirements.txt": "gradio>=5\n"}, "gradio", None),
        ({"main.py": FASTAPI + "import gradio as gr\nuvicorn.run(app)\n"}, "gradio", ("{python}", "main.py")),
        ({"streamlit_app.py": STREAMLIT}, "streamlit", ("{python}", "-m", "streamlit", "run", "streamlit_app.py")),
        ({"README.md": readme("sdk: static"), "index.html": ""}, "static", ()),
        ({"README.md": readme("app_file: docs/a.html"), "docs/a.html": ""}, "static", ()),
        ({"README.md": "# x", "index.html": "", "notes.py": "x = 1"}, "static", ()),
    ],
)
def test_the_kind_of_app(files: dict[str, str | bytes], sdk: str, command: tuple[str, ...] | None) -> None:
    found = recipe(files)
    assert found.sdk == sdk
    if command is not None:
        assert found.command == command


@pytest.mark.parametrize(
    ("files", "target"),
    [
        ({"app.py": FASTAPI}, ["app:app"]),
        ({"app.py": RAW_ASGI}, ["app:app"]),
        ({"main.py": "import starlette.applications as s\nsite: object = s.Starlette()\n"}, ["main:site"]),
        ({"main.py": "from fastapi import FastAPI\nadmin = FastAPI()\napi = FastAPI()\n"}, ["main:api"]),
        ({"main.py": FASTAPI + "import gradio as gr\napp = gr.mount_gradio_app(app, d, '/')\n"}, ["main:app"]),
        ({"app/main.py": FASTAPI, "app/__init__.py": ""}, ["app.main:app"]),
        ({"src/main.py": FASTAPI}, ["main:app", "--app-dir", "src"]),
    ],
)
def test_an_asgi_application_is_found_without_running_it(files: dict[str, str | bytes], target: list[str]) -> None:
    command = list(recipe(files).command)
    assert command == ["{python}", "-m", "uvicorn", *target, "--host", "127.0.0.1", "--port", "7860"]


def test_values_of_the_front_matter_reach_the_recipe() -> None:
    keys = (
        "sdk: gradio",
        "sdk_version: 5.1.0",
        "python_version: 3.12",
        "app_port: 8000",
        "startup_duration_timeout: 1h",
    )
    found = recipe({"README.md": readme(*keys), "app.py": GRADIO})
    assert (found.sdk_version, found.python_version, found.port, found.start_timeout_s) == ("5.1.0", "3.12", 8000, 3600)


@pytest.mark.parametrize(
    ("files", "links", "stage", "where", "word"),
    [
        (
            {"README.md": readme("sdk: docker"), "Dockerfile": ""},
            (),
            "CONFIG_ERROR",
            ("README.md", 2),
            "container engine",
        ),
        ({"Dockerfile": "FROM x", "app.py": GRADIO}, (), "CONFIG_ERROR", ("Dockerfile", 1), "container engine"),
        ({"README.md": readme("title: x", "sdk: gradio")}, (), "NO_APP_FILE", ("README.md", 3), "no app.py"),
        ({"README.md": readme("sdk: static"), "a.html": ""}, (), "NO_APP_FILE", ("README.md", 2), "index.html"),
        ({"README.md": readme("sdk: gradio", "app_file: x.py")}, (), "NO_APP_FILE", ("README.md", 3), "`x.py`"),
        (
            {"README.md": readme("sdk: gradio", "app_file: x.html"), "x.html": ""},
            (),
            "CONFIG_ERROR",
            ("README.md", 3),
            "Python",
        ),
        ({"README.md": readme("sdk: asgi"), "app.py": "x = 1"}, (), "CONFIG_ERROR", ("app.py", None), "ASGI"),
        ({"README.md": readme("sdk: nope")}, (), "CONFIG_ERROR", ("README.md", 2), "must be one of"),
        ({"README.md": "x", "app.py": "import flask"}, (), "CONFIG_ERROR", ("app.py", None), "sdk:"),
        ({"notes.txt": "x"}, (), "NO_APP_FILE", (None, None), "nothing to run"),
        ({}, (), "NO_APP_FILE", (None, None), "nothing to run"),
        ({}, ("app.py",), "CONFIG_ERROR", ("app.py", None), "symbolic link"),
        ({}, ("README.md",), "CONFIG_ERROR", ("README.md", None), "symbolic link"),
        ({"README.md": readme("sdk: gradio")}, ("app.py",), "CONFIG_ERROR", ("app.py", None), "symbolic link"),
        ({"README.md": readme("app_file: x.py")}, ("x.py",), "CONFIG_ERROR", ("README.md", 2), "symbolic link"),
        ({"README.md": readme("app_file: d/x.py")}, ("d",), "CONFIG_ERROR", ("README.md", 2), "`d` is a symbolic link"),
    ],
)
def test_refusals_say_where_and_what(
    files: dict[str, str | bytes], links: tuple[str, ...], stage: str, where: tuple[str | None, int | None], word: str
) -> None:
    found = refusal(files, links)
    assert (found.stage, found.file, found.line) == (stage, *where)
    assert word in found.message


@pytest.mark.parametrize(
    "source",
    [
        "(" * 5000 + ")" * 5000,
        "-" * 100_000 + "1",
        "a" + ".b" * 50_000,
        "1" + "+1" * 50_000,
        "\0",
        "x = '" + "\ud800" * 2,
    ],
)
def test_hostile_python_says_nothing(source: str) -> None:
    files = {"app.py": source.encode("utf-8", "surrogatepass")}
    assert refusal(files).code in ("unknown-kind", "no-app-file")


def test_a_listing_of_git_is_read() -> None:
    raw = b"100644 blob " + b"a" * 40 + b"      12\ta b.py\0" + b"120000 blob " + b"b" * 40 + b"       3\tlink\0"
    raw += b"160000 commit " + b"c" * 40 + b"       -\tsub\0"
    listing = parse_listing(raw)
    assert listing["a b.py"] == Entry(Kind.FILE, 12, "a" * 40)
    assert [entry.regular for entry in listing.values()] == [True, False, False]


@pytest.mark.parametrize(
    "path", [b"../x", b"a/../b", b"a//b", b".git/config", b"x/.GIT/hooks", b"\xff", b"a/" * 60 + b"b", b"x" * 300]
)
def test_paths_that_mean_harm_are_refused(path: bytes) -> None:
    with pytest.raises(BadListing):
        parse_listing(b"100644 blob " + b"a" * 40 + b" 1\t" + path + b"\0")
