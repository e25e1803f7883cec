"""The builder with real git, real uv and, where code of packages has to run, the real sandbox."""

import concurrent.futures
import io
import json
import os
import re
import sys
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.adapters.control import ShuttingDown
from builder.sandbox.run import Boxed, run_boxed
from tests.support.builder_world import TOKEN, Built, World, app_running, egress_running
from tests.support.git import git
from tests.support.product import wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CASES = Path(__file__).resolve().parents[1] / "apps"
ASGI = "async def app(scope, receive, send):\n    pass\n"
TINY = {"README.md": "---\nsdk: asgi\n---\n", "app.py": ASGI}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("builder"))
    yield made
    made.close()


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[Any]:
    worlds: list[World] = []

    def make(**settings: Any) -> World:
        worlds.append(World(tmp_path / f"w{len(worlds)}", **settings))
        return worlds[-1]

    yield make
    for made in worlds:
        made.close()


@pytest.fixture(scope="module")
def tiny(world: World) -> Built:
    """The smallest app with an environment; its packages are in the cache from here on."""
    return world.build("tiny", TINY)


def get(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


class TestSamples:
    """Each sample builds, and its start command answers in the environment that was made."""

    @pytest.mark.parametrize(
        ("name", "path", "word"),
        [
            ("gradio", "/", "gradio"),
            ("streamlit", "/_stcore/health", "ok"),
            ("asgi", "/", "Checksums"),
        ],
    )
    def test_a_sample_is_built_and_answers(self, world: World, name: str, path: str, word: str) -> None:
        built = world.build(name, EXAMPLES / name)
        assert built.heard.phases == ["fetch", "detect", "plan", "install", "snapshot", "report"]
        assert (built.image["kind"], built.image["sdk"]) == ("environment", name)
        with app_running(built) as port:
            assert wait_for(lambda: word in get(port, path), 60, f"{name} to answer")

    def test_a_static_page_needs_no_environment(self, world: World) -> None:
        built = world.build("static", EXAMPLES / "static")
        assert (built.image["kind"], built.image["environment"], built.image["command"]) == ("static", None, [])
        assert (built.snapshot / "index.html").read_bytes() == (EXAMPLES / "static" / "index.html").read_bytes()

    def test_the_computations_of_the_samples(self) -> None:
        sys.path[:0] = [str(EXAMPLES / "gradio"), str(EXAMPLES / "streamlit")]
        try:
            from plan import grow
            from readability import analyse
        finally:
            del sys.path[:2]
        report = analyse("The cat sat. " + "A very long sentence " * 8 + "ends here.")
        assert report is not None
        assert (len(report.sentences), report.long_sentences) == (2, 1)
        assert analyse("1 2 3") is None
        course = grow(100, 10, 0, 0)
        assert (course[-1].paid_in, round(course[-1].value), round(course[-1].real_value)) == (12_000, 12_000, 12_000)
        assert grow(100, 10, 5, 2)[-1].real_value < grow(100, 10, 5, 0)[-1].value


class TestEnvironments:
    def test_bytecode_is_there_and_shared_with_the_cache(self, world: World, tiny: Built) -> None:
        pyc = next((tiny.site_packages() / "uvicorn" / "__pycache__").glob("main.*.pyc"))
        assert pyc.stat().st_nlink >= 2
        assert (tiny.site_packages() / "uvicorn" / "main.py").stat().st_nlink >= 2
        modes = {path.stat().st_mode & 0o222 for path in tiny.site_packages().rglob("*") if path.is_file()}
        assert modes == {0}
        assert tiny.environment.stat().st_mode & 0o777 == 0o755

    def test_python_accepts_the_bytecode(self, tiny: Built) -> None:
        import subprocess

        command = [str(tiny.environment / "bin" / "python"), "-v", "-c", "import uvicorn.main"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}).stderr
        assert "uvicorn/__pycache__/main.cpython" in said.replace("// code object from", "")
        assert "could not" not in said
        assert "bytecode is stale" not in said

    def test_a_code_only_push_installs_nothing(self, world: World, tiny: Built) -> None:
        before = sorted((world.data / "environments").iterdir())
        again = world.build("tiny", {**TINY, "note.txt": "changed"})
        assert again.image["environment"] == tiny.image["environment"]
        assert again.image["snapshot"] != tiny.image["snapshot"]
        assert again.image["id"] != tiny.image["id"]
        assert "using the environment of the last build" in again.log
        assert "Resolved" not in again.log
        assert sorted((world.data / "environments").iterdir()) == before

    def test_another_space_with_the_same_requirements_shares_it(self, world: World, tiny: Built) -> None:
        other = world.build("other", TINY, owner="owner-2")
        assert other.image["environment"] == tiny.image["environment"]
        assert "resolved today already" in other.log
        assert other.heard.result is not None
        assert "uvicorn==" in other.heard.result["lock"]
        assert "--hash=sha256:" in other.heard.result["lock"]

    def test_concurrent_builds_of_one_lock_make_it_once(self, world: World, tiny: Built) -> None:
        files = {**TINY, "requirements.txt": "idna\n"}
        orders = [world.order(f"c{n}", world.commit(f"c{n}", files)) for n in range(3)]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            built = list(pool.map(world.carry_out, orders))
        assert len({one.image["environment"] for one in built}) == 1
        assert sum("(made)" in one.log for one in built) == 1

    def test_a_factory_build_starts_from_nothing(self, world: World, tiny: Built) -> None:
        built = world.carry_out(world.order("tiny", tiny.order.sha, factory=True))
        assert built.image["environment"] != tiny.image["environment"]
        assert built.image["snapshot"] != tiny.image["snapshot"]
        assert tiny.snapshot.is_dir()
        cached = next(iter((world.data / "cache" / "uv").glob("archive-v*/*/uvicorn/main.py")))
        assert (built.site_packages() / "uvicorn" / "main.py").stat().st_ino != cached.stat().st_ino
        assert next((built.site_packages() / "uvicorn" / "__pycache__").glob("main.*.pyc"))
        following = world.build("tiny", {**TINY, "note.txt": "after the factory build"})
        assert following.image["environment"] == built.image["environment"]
        assert not list((world.data / "cache").glob(".factory-*"))

    def test_requirements_with_hashes_are_held_to_them(self, world: World, tiny: Built) -> None:
        assert tiny.heard.result is not None
        lock = tiny.heard.result["lock"]
        found = re.search(r"^h11==(\S+) \\\n +--hash=(\S+) \\\n +--hash=(\S+)$", lock, re.MULTILINE)
        assert found, lock
        name = f"h11=={found[1]}"
        # One of the two is the wheel's, the other that of the source distribution.
        kept = [world.build("pinned", {**TINY, "requirements.txt": f"{name} --hash={found[n]}\n"}) for n in (2, 3)]
        ends = {bool(one.heard.result and one.heard.result["image"]): one for one in kept}
        assert ends[True].heard.result is not None
        assert ends[True].heard.result["lock"].count("--hash") == lock.count("--hash") - 1
        assert "h11" in ends[False].failure["message"]
        print(ends[False].failure["message"])
        bad = world.build("pinned", {**TINY, "requirements.txt": f"{name} --hash=sha256:{'0' * 64}\n"})
        assert bad.failure["code"] == "hash-mismatch"

    def test_nothing_is_left_over(self, world: World, tiny: Built) -> None:
        left = [*world.data.glob("environments/.*"), *world.data.glob("snapshots/*/.*"), *world.data.glob("cache/.*")]
        assert left == []
        assert list((world.data / "cache" / "fetch").iterdir()) == []


class TestSnapshots:
    def test_only_regular_files_with_the_commits_time(self, world: World, tiny: Built) -> None:
        files = {**TINY, "sub/deep/x.txt": "x", "run.sh": "#!/bin/sh\n", "lib.py": "x = 1\n"}
        built = world.build("files", files, links={"link.txt": "/etc/passwd", "folder": ".."})
        assert not (built.snapshot / "link.txt").exists()
        assert not (built.snapshot / "folder").exists()
        assert "link.txt" in built.log
        assert "symbolic links are not taken over" in built.log
        assert (built.snapshot / "sub/deep/x.txt").read_text() == "x"
        when = int(git("log", "-1", "--format=%ct", cwd=world.root / "work" / "files"))
        sources = [path for path in built.snapshot.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        assert {path.stat().st_mtime for path in sources} == {when}
        assert (built.snapshot / "app.py").stat().st_mode & 0o777 == 0o444
        assert next((built.snapshot / "__pycache__").glob("lib.cpython-*.pyc"))

    def test_the_same_commit_is_written_once(self, world: World, tiny: Built) -> None:
        before = tiny.snapshot.stat().st_ino
        again = world.carry_out(world.order("tiny", tiny.order.sha))
        assert again.image["snapshot"] == tiny.image["snapshot"]
        assert again.snapshot.stat().st_ino == before

    def test_a_mistake_in_the_app_file_is_found_before_it_starts(self, world: World, tiny: Built) -> None:
        built = world.build("mistake", {**TINY, "other.py": "x = 1\n\ndef broken(:\n"})
        assert "Warning: other.py:3: " in built.log
        readme = "---\nsdk: streamlit\n---\n"
        failed = world.build("mistake", {"README.md": readme, "app.py": "x = 1\ny = = 2\n"})
        assert (failed.failure["code"], failed.failure["file"], failed.failure["line"]) == ("syntax-error", "app.py", 2)

    def test_a_first_page_elsewhere_is_led_to(self, world: World) -> None:
        readme = "---\nsdk: static\napp_file: dist/start.html\n---\n"
        built = world.build("page", {"README.md": readme, "dist/start.html": "hello"})
        assert '"dist/start.html"' in (built.snapshot / "index.html").read_text()

    def test_pointers_of_large_files_stay(self, world: World) -> None:
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
        built = world.build("lfs", {"index.html": "x", "model.bin": pointer})
        assert (built.snapshot / "model.bin").read_text() == pointer
        assert "model.bin stayed Git LFS pointers" in built.log

    @pytest.mark.parametrize(
        ("settings", "code"), [({"snapshot_files_max": 3}, "bad-path"), ({"snapshot_bytes_max": 100}, "too-large")]
    )
    def test_commits_past_the_limits_are_refused(self, own_world: Any, settings: dict[str, int], code: str) -> None:
        files = {"index.html": "x" * 200} | {f"{n}.txt": "x" for n in range(700)}
        built = own_world(**settings).build("big", files)
        assert (built.failure["stage"], built.failure["code"]) in (
            ("CONFIG_ERROR", code),
            ("CONFIG_ERROR", "too-many-files"),
        )


def case_names() -> list[str]:
    return sorted(path.name for path in CASES.iterdir() if (path / "expect.json").is_file())


@pytest.mark.parametrize("name", case_names())
def test_hostile_and_broken_repositories(world: World, name: str) -> None:
    """Each folder of tests/apps: its files make a commit, `expect.json` says what has to come of it."""
    expect = json.loads((CASES / name / "expect.json").read_text())
    root = CASES / name / "files"
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    built = world.build(f"case-{name}", files, links=expect.get("links"))
    for key in ("stage", "code", "file", "line"):
        if key in expect:
            assert built.failure[key] == expect[key], built.failure
    for word in expect["message"]:
        assert word in built.failure["message"]
    assert built.took_s < expect.get("within_s", 120)


class TestPythons:
    def test_one_that_cannot_be_had_names_those_that_can(self, world: World, tiny: Built) -> None:
        built = world.build("old", {**TINY, "README.md": "---\nsdk: asgi\npython_version: '3.99'\n---\n"})
        assert (built.failure["stage"], built.failure["code"]) == ("CONFIG_ERROR", "python-version")
        assert tiny.image["python"].rpartition(".")[0] in built.failure["message"]

    def test_the_front_matter_chooses(self, world: World, tiny: Built) -> None:
        version = tiny.image["python"].rpartition(".")[0]
        built = world.build("chosen", {**TINY, "README.md": f"---\nsdk: asgi\npython_version: {version}\n---\n"})
        assert built.image["environment"] == tiny.image["environment"]


SETUP = """
import os, setuptools
for path in ("{data}", "{root}", "/etc/shadow", "/root/.ssh"):
    if os.path.exists(path):
        raise SystemExit("SEEN " + path)
leaked = [name for name in os.environ if name.startswith("DORMOUSE") or "{token}" in os.environ[name]]
if leaked:
    raise SystemExit("LEAKED " + " ".join(leaked))
setuptools.setup(name="dormouse-test-source", version="1.0", py_modules=["dormouse_test_source"])
"""


def source_distribution(folder: Path, setup: str, name: str = "dormouse-test-source") -> None:
    module = name.replace("-", "_")
    files = {
        "setup.py": setup,
        f"{module}.py": "ANSWER = 42\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"{module}-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{module}-1.0/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))


def sandbox_works() -> bool:
    outcome = run_boxed(Boxed(command=["/bin/true"]), lambda line: None)
    return outcome.exit_code == 0


class TestSourceBuilds:
    """What needs code of a package to be run is built in the sandbox."""

    @pytest.fixture
    def boxed(self, own_world: Any, tmp_path: Path) -> Iterator[World]:
        if not sandbox_works():
            pytest.skip("the sandbox does not work on this machine")
        world: World = own_world(wheels=str(tmp_path / "wheels"))
        setup = SETUP.format(data=world.data, root=world.root, token=TOKEN)
        source_distribution(tmp_path / "wheels", setup)
        with egress_running(world):
            yield world

    def test_a_source_distribution_is_built_without_a_view_of_the_machine(self, boxed: World) -> None:
        files = {**TINY, "requirements.txt": "dormouse-test-source\n"}
        built = boxed.build("boxed", files)
        assert "built from source in the sandbox" in built.log
        assert (built.site_packages() / "dormouse_test_source.py").read_text() == "ANSWER = 42\n"
        assert (built.environment / "bin" / "python").resolve() == Path(os.path.realpath("/usr/bin/python3"))
        assert next((built.site_packages() / "uvicorn" / "__pycache__").glob("main.*.pyc"))
        assert not list((boxed.data / "cache" / "uv").glob("archive-v*/*/dormouse_test_source.py"))
        again = boxed.build("boxed", {**files, "note.txt": "x"})
        assert again.image["environment"] == built.image["environment"]
        assert "using the environment of the last build" in again.log
        other = boxed.build("boxed-2", files, owner="owner-2")
        assert other.image["environment"] != built.image["environment"]

    def test_a_build_that_fails_says_why(self, boxed: World, tmp_path: Path) -> None:
        source_distribution(tmp_path / "wheels", "raise SystemExit('no luck today')", "dormouse-test-broken")
        built = boxed.build("broken", {**TINY, "requirements.txt": "dormouse-test-broken\n"})
        assert (built.failure["stage"], built.failure["retry"]) == ("BUILD_ERROR", False)
        assert "no luck today" in built.log

    def test_links_that_a_build_leaves_lead_nowhere(self, boxed: World, tmp_path: Path) -> None:
        hostile = (
            "import glob, os, setuptools\n"
            "for box in glob.glob('/build/*/bin'):\n"
            "    os.remove(box + '/python'); os.symlink('/etc/bin/python', box + '/python')\n"
            "for name in os.listdir('/build'):\n"
            "    if name.endswith('.lock'): os.remove('/build/' + name); os.symlink('/etc/passwd', '/build/' + name)\n"
            "setuptools.setup(name='dormouse-test-links', version='1.0', py_modules=['dormouse_test_links'])\n"
        )
        source_distribution(tmp_path / "wheels", hostile, "dormouse-test-links")
        built = boxed.build("links", {**TINY, "requirements.txt": "dormouse-test-links\n"})
        assert built.heard.result is not None
        assert "root:" not in built.heard.result["lock"]
        if built.heard.result["image"]:
            assert (built.environment / "bin" / "python").resolve() == Path(os.path.realpath("/usr/bin/python3"))


HOSTILE = """
import glob, os, time, setuptools
{code}
setuptools.setup(name="dormouse-test-{name}", version="1.0", py_modules=["dormouse_test_{name}"])
"""
NEST = """
for place in glob.glob("/build/*/lib/python3*/site-packages"):
    if os.path.exists(place + "/d"):
        continue
    here = os.open(place, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here); below = os.open("d", os.O_RDONLY, dir_fd=here); os.close(here); here = below
"""
RESERVE = """
for number in range({count}):
    with open(f"/build/reserved-{{number}}", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, {size})
time.sleep({sleep})
"""


class TestHostileSourceBuilds:
    """Builds that are after the machine itself."""

    @pytest.fixture
    def boxed(self, own_world: Any, tmp_path: Path) -> Iterator[World]:
        if not sandbox_works():
            pytest.skip("the sandbox does not work on this machine")
        world: World = own_world(wheels=str(tmp_path / "wheels"), source_bytes_max=600 << 20)
        with egress_running(world):
            yield world

    def hostile(self, world: World, name: str, code: str) -> Built:
        source_distribution(Path(world.settings.wheels), HOSTILE.format(name=name, code=code), f"dormouse-test-{name}")
        return world.build(name, {**TINY, "requirements.txt": f"dormouse-test-{name}\n"})

    def test_folders_without_end_are_refused_and_removed(self, boxed: World) -> None:
        built = self.hostile(boxed, "nested", NEST)
        assert built.failure["code"] == "too-deep"
        assert "deeper than 100 levels" in built.failure["message"]
        assert not [path for path in (boxed.data / "environments").iterdir() if path.name.startswith(".")]
        assert self.hostile(boxed, "plain", "").image["environment"]

    def test_a_large_file_is_refused_and_leaves_nothing(self, boxed: World) -> None:
        built = self.hostile(boxed, "reserving", RESERVE.format(count=1, size=6 << 30, sleep=0))
        assert built.failure["code"] == "build-disk"
        assert "300 MiB that one file" in built.failure["message"]
        assert not (boxed.data / "cache" / "source" / "owner-1" / "box").exists()

    def test_many_files_are_noticed_while_the_build_runs(self, boxed: World) -> None:
        built = self.hostile(boxed, "hoarding", RESERVE.format(count=4, size=200 << 20, sleep=100))
        assert built.failure["code"] == "build-disk"
        assert "600 MiB of disk" in built.failure["message"]
        assert built.took_s < 90
        assert not (boxed.data / "cache" / "source" / "owner-1" / "box").exists()


class TestStopping:
    def test_a_superseded_build_stops_at_once(self, world: World) -> None:
        order = world.order("tiny", world.commit("tiny", TINY))
        world.internal.over_after_phase[order.build_id] = "detect"
        built = world.carry_out(order)
        assert built.heard.result is None
        assert "report" not in built.heard.phases

    def test_an_order_that_is_over_is_not_begun(self, world: World) -> None:
        order = world.order("tiny", "0" * 40)
        world.internal.over.add(order.build_id)
        built = world.carry_out(order)
        assert (built.heard.phases, built.heard.result) == ([], None)

    def test_a_worker_that_ends_leaves_the_order_to_another(self, own_world: Any) -> None:
        world: World = own_world()
        order = world.order("tiny", world.commit("tiny", TINY))
        caught: list[BaseException] = []

        def work() -> None:
            try:
                world.builder.build(order)
            except ShuttingDown as reason:
                caught.append(reason)

        thread = threading.Thread(target=work)
        thread.start()
        wait_for(
            lambda: "install" in world.internal.heard(order.build_id).phases, 30, "the install phase", every_s=0.01
        )
        started = time.monotonic()
        world.builder.stop()
        thread.join(timeout=10)
        assert time.monotonic() - started < 6
        assert len(caught) == 1
        assert world.internal.heard(order.build_id).result is None
        with pytest.raises(ShuttingDown):
            world.builder.build(order)

    def test_a_phase_past_its_limit_is_an_error_that_names_it(self, own_world: Any) -> None:
        built = own_world(install_timeout_s=0.2).build("slow", TINY)
        assert built.failure["code"] == "timeout"
        assert "install phase" in built.failure["message"]

    def test_the_lease_is_kept_while_a_build_waits(self, own_world: Any) -> None:
        world: World = own_world(build_lease_s=0.3)
        world.git.refuse = 4
        built = world.build("patient", {"index.html": "x"})
        assert built.image["kind"] == "static"
        assert built.heard.leases > 2

    def test_reports_survive_an_api_that_is_away(self, world: World) -> None:
        world.internal.fail_next = 3
        assert world.build("away", {"index.html": "x"}).image["kind"] == "static"

    def test_a_commit_that_is_gone(self, world: World) -> None:
        world.commit("gone", {"index.html": "x"})
        built = world.carry_out(world.order("gone", "1" * 40))
        assert built.failure["code"] == "no-commit"

    def test_the_token_is_written_nowhere(self, world: World, tiny: Built) -> None:
        assert world.internal.tokens == {f"Bearer {TOKEN}"}
        for path in world.data.rglob("*"):
            if path.is_file() and path.stat().st_size < 1 << 20 and "site-packages" not in str(path):
                assert TOKEN.encode() not in path.read_bytes()
