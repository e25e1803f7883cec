"""What the resolver is asked for, and which lines of requirement files are refused."""

from collections.abc import Mapping

import pytest

from builder.domain.detect import Recipe, examine
from builder.domain.plan import Plan, make_plan
from builder.domain.problems import Refusal
from builder.domain.tree import Entry, Kind

APP = "import gradio as gr\ngr.Blocks().launch()\n"


def planned(files: Mapping[str, str | bytes], *keys: str) -> Plan | Refusal:
    head = "\n".join(["---", "sdk: gradio", *keys, "---", ""])
    everything = {"README.md": head, "app.py": APP, **files}
    raw = {path: text.encode() if isinstance(text, str) else text for path, text in everything.items()}
    listing = {path: Entry(Kind.FILE, len(content), "0" * 40) for path, content in raw.items()}
    _, found = examine(listing, raw.__getitem__)
    assert isinstance(found, Recipe), found
    return make_plan(found, listing, raw.__getitem__)


def plan(files: Mapping[str, str | bytes] | str, *keys: str) -> Plan:
    found = planned({"requirements.txt": files} if isinstance(files, str) else files, *keys)
    assert isinstance(found, Plan), found
    return found


def refusal(files: Mapping[str, str | bytes] | str, *keys: str) -> Refusal:
    found = planned({"requirements.txt": files} if isinstance(files, str) else files, *keys)
    assert isinstance(found, Refusal), f"accepted: {found}"
    return found


def test_the_framework_comes_unlisted() -> None:
    assert plan("").requirements == ("gradio",)
    assert plan("", "sdk_version: 5.1.0").requirements == ("gradio==5.1.0",)
    assert plan("gradio>=5", "sdk_version: 5.1.0").requirements == ("gradio==5.1.0", "gradio>=5")


def test_what_the_hub_preinstalls_comes_where_it_is_imported() -> None:
    files = {"app.py": APP + "import requests\n", "lib/data.py": "from datasets import load_dataset\n"}
    assert plan(files).requirements == ("gradio", "datasets", "requests")
    assert plan({**files, "requirements.txt": "Requests==2.32.0\ndatasets"}).requirements[0] == "gradio"
    assert "requests" not in plan({**files, "requirements.txt": "Requests==2.32.0\ndatasets"}).requirements


def test_extras_follow_the_app() -> None:
    assert plan("", "hf_oauth: true").requirements == ("gradio[oauth]",)
    assert plan({"app.py": APP + "demo.launch(mcp_server=True)"}).requirements == ("gradio[mcp]",)


def test_files_are_read_as_pip_does() -> None:
    found = plan(
        {
            "pre-requirements.txt": "pip\n",
            "requirements.txt": b"\xef\xbb\xbf# comment\r\nnumpy >= 2 # why\r\npandas[excel]>=2,\\\r\n<4\r\n"
            b"-r more/extra.txt\r\n-c more/limits.txt\r\n--pre\r\n--prefer-binary\r\n",
            "more/extra.txt": "-r deeper.txt\nhttpx; python_version > '3.8'\n",
            "more/deeper.txt": "rich\n-r extra.txt\n",
            "more/limits.txt": "numpy<3\n",
        }
    )
    assert found.requirements[1:] == ("pip", "numpy>=2", "pandas[excel]<4,>=2", "rich", 'httpx; python_version > "3.8"')
    assert found.constraints == ("numpy<3",)
    assert found.prereleases
    assert not found.foreign
    assert any("--prefer-binary is not needed" in text for text in found.warnings)


def test_utf16_of_windows_editors_is_read() -> None:
    assert plan({"requirements.txt": "numpy\r\n".encode("utf-16")}).requirements == ("gradio", "numpy")


@pytest.mark.parametrize(
    "line",
    [
        "git+https://example.com/a/b",
        "tool @ git+https://example.com/a/b@main",
        "https://example.com/x-1-py3-none-any.whl",
        "--extra-index-url https://example.com/simple",
        "--index-url=https://example.com/simple",
        "-f https://example.com/wheels",
    ],
)
def test_addresses_of_the_author_belong_into_the_sandbox(line: str) -> None:
    assert plan(line + "\n").foreign


def test_a_package_given_by_address_is_not_asked_for_twice() -> None:
    assert plan("gradio @ https://example.com/gradio-9-py3-none-any.whl").requirements[0].startswith("gradio @")


def test_hashes_are_kept_apart() -> None:
    found = plan(f"rich==14.0.0 \\\n  --hash=sha256:{'a' * 64} \\\n  --hash=sha256:{'b' * 64}\n")
    assert found.requirements[1:] == ("rich==14.0.0",)
    assert found.hashes == {"rich": frozenset((f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"))}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("numpy\n-e .\n", 2, "without being installed"),
        ("-e git+https://example.com/a/b\n", 1, "without `-e`"),
        ("./local\n", 1, "is a path"),
        ("x.whl\n", 1, "is a path"),
        ("x @ file:///etc/passwd\n", 1, "only https://"),
        ("git+ssh://git@example.com/a\n", 1, "only https://"),
        ("git+file:///work\n", 1, "only https://"),
        ("http://example.com/x.whl\n", 1, "only https://"),
        ("\n\n-r ../other.txt\n", 3, "outside the repository"),
        ("-r https://example.com/r.txt\n", 1, "outside the repository"),
        ("-r missing.txt\n", 1, "not in the repository"),
        ("--index-url http://example.com\n", 1, "https address"),
        ("--find-links /etc\n", 1, "https address"),
        ("--config-file x\n", 1, "not known"),
        ("numpy=1.0\n", 1, "`==`"),
        ("pip install numpy\n", 1, "without `pip install`"),
        ("numpy ${X}\n", 1, "Variables"),
        ("a\n\n# c\nb c\n", 4, "not a requirement"),
        ("numpy --config-settings=x\n", 1, "Build options"),
    ],
)
def test_lines_that_cannot_be_honoured(text: str, line: int, word: str) -> None:
    found = refusal(text)
    assert (found.stage, found.file, found.line) == ("CONFIG_ERROR", "requirements.txt", line)
    assert word in found.message


def test_a_refused_line_of_an_included_file_names_that_file() -> None:
    assert (refusal({"requirements.txt": "-r b.txt", "b.txt": "x\n-e .\n"})).file == "b.txt"


@pytest.mark.parametrize("raw", [b"\xff\xfe\xff", b"numpy\n\xff\n", b"\0\0", b"a\n" * 6000])
def test_junk_has_an_answer(raw: bytes) -> None:
    assert refusal({"requirements.txt": raw}).file == "requirements.txt"


def test_a_pin_that_contradicts_the_front_matter_is_explained() -> None:
    found = refusal("numpy\ngradio==4.44.0\n", "sdk_version: 5.1.0")
    assert (found.code, found.line) == ("sdk-conflict", 2)
    assert "sdk_version: 5.1.0" in found.message


def test_files_of_other_worlds() -> None:
    assert "system packages" in plan({"packages.txt": "ffmpeg\n"}).warnings[0]
    assert refusal({"environment.yml": "name: x"}).file == "environment.yml"
    assert plan({"environment.yml": "", "requirements.txt": ""}).requirements == ("gradio",)
    project = '[project]\nname = "x"\ndependencies = ["numpy>=2"]\n'
    found = plan({"pyproject.toml": project, "uv.lock": ""})
    assert found.requirements == ("gradio", "numpy>=2")
    assert any("uv.lock" in text for text in found.warnings)
    assert refusal({"pyproject.toml": "[project\n"}).file == "pyproject.toml"
    assert refusal({"pyproject.toml": "[project]\ndependencies = ['-e .', './x']\n"}).file == "pyproject.toml"


def test_equal_plans_have_equal_texts_and_differing_ones_differ() -> None:
    assert plan("numpy").text() == plan("numpy # comment\n").text()
    texts = {plan(text).text() for text in ("numpy", "numpy\n--pre", "-c c.txt\nnumpy", "") if "-c" not in text}
    assert len(texts) == 3
