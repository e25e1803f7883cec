"""A folder -> a commit on `main` of a Space, by real git.

A folder that is a repository pushes its HEAD. Any other folder is committed as it is, honouring its `.gitignore`, in a
throw-away clone, so that nothing appears in the author's folder; what hardly anybody means to publish (environments,
caches, files of credentials) is left out, and named. The commit is made before anything is asked of the server but its
present state, so that a folder that cannot be committed leaves no empty Space behind. The token travels in git's
environment and through a credential helper: never in a command line, an address or a file.
"""

import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.domain.card_keys import SDKS
from orchestrator.errors import Invalid, Refused

PUSH_LIMIT_S = 1800.0
_HELPER = '!f() { test "$1" = get && echo "username=dormouse" && echo "password=$DORMOUSE_GIT_TOKEN"; }; f'
# A clone of ours must not do what the user's configuration asks for: hooks, signing, line endings, large-file filters.
_NEUTRAL = (
    "core.hooksPath=/dev/null",
    "commit.gpgSign=false",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "filter.lfs.process=",
    "filter.lfs.clean=cat",
    "filter.lfs.required=false",
)

LEFT_OUT = (".env*", ".venv/", "venv/", "__pycache__/", "node_modules/")
"""Of a folder that is no repository; its own .gitignore may take them in again."""
_NAMED_MAX = 6
_MAIN = "refs/heads/main"

Show = Callable[[str], None]


class PushFailed(Refused):
    """git refused; its own output was shown already."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit that exists on this machine, ready to be pushed."""

    folder: Path
    """The repository that holds it."""
    sha: str
    changed: bool
    """Whether it differs from what the Space's `main` is now."""
    left_out: tuple[str, ...] = ()
    """Files and folders (with a `/`) that are not in it because of `LEFT_OUT`."""
    is_copy: bool = False

    def push(self, remote: str, *, token: str, show: Show, force: bool = False) -> None:
        """Make it `main` of `remote`; `show` gets git's `remote:` lines. Raises PushFailed where git refuses."""
        options = ["--force"] if force else []
        arguments = ["push", *options, remote, f"HEAD:{_MAIN}"]
        _stream(self.folder, arguments, token=token, show=show, neutral=self.is_copy)


@contextmanager
def prepared(folder: Path, remote: str, *, token: str, as_copy: bool = False) -> Iterator[Commit]:
    """The commit that `folder` amounts to, on top of what `remote` has; an empty `remote` has nothing.

    With `as_copy` its files are committed as they lie there even if it is a repository.

    Raises Invalid for what is no folder or is empty, PushFailed where git refuses.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise Invalid(f"{folder} is no folder.")
    if not as_copy and _is_repository(folder):
        sha = _run(folder, ["rev-parse", "HEAD"]).stdout.strip()
        present = _run(folder, ["ls-remote", remote, _MAIN], token).stdout.split("\t")[0] if remote else ""
        yield Commit(folder=folder, sha=sha, changed=sha != present)
        return
    with tempfile.TemporaryDirectory(prefix="dormouse-push-") as name:
        yield _copied(folder, remote, Path(name), token=token)


def push(folder: Path, remote: str, *, token: str, show: Show, force: bool = False, as_copy: bool = False) -> str:
    """Push `folder` to `main` of a Space that exists; the commit id."""
    with prepared(folder, remote, token=token, as_copy=as_copy) as commit:
        commit.push(remote, token=token, show=show, force=force)
        return commit.sha


def _is_repository(folder: Path) -> bool:
    """Whether the folder itself is the top of a repository that has a commit."""
    if not (folder / ".git").exists():
        return False
    return _run(folder, ["rev-parse", "--verify", "--quiet", "HEAD"]).returncode == 0


def _copied(folder: Path, remote: str, place: Path, *, token: str) -> Commit:
    """Commit the folder's files on top of the Space's `main`."""
    clone, base = place / "clone", ""
    _checked(place, ["init", "--quiet", "--template=", str(clone)], token=token)
    if remote:
        _checked(clone, ["fetch", "--quiet", remote, "+refs/heads/*:refs/heads/origin/*"], token=token)
        base = _run(clone, ["rev-parse", "--verify", "--quiet", "refs/heads/origin/main"]).stdout.strip()
    if base:
        _checked(clone, ["update-ref", "HEAD", base], token=token)
    exclude = clone / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("".join(f"{pattern}\n" for pattern in LEFT_OUT))
    # git reads the author's files where they are: nothing is copied, and .gitignore counts.
    tree = ["--git-dir", str(clone / ".git"), "--work-tree", str(folder)]
    _checked(folder, [*tree, "add", "--all", "--", "."], token=token)
    if not _run(folder, [*tree, "ls-files"]).stdout.strip():
        raise Invalid(f"{folder} has no files to push.")
    if not base or _run(folder, [*tree, "diff", "--cached", "--quiet", "HEAD"]).returncode != 0:
        _checked(folder, [*tree, "commit", "--quiet", "--message", f"Push {folder.name}"], token=token)
    sha = _run(clone, ["rev-parse", "HEAD"]).stdout.strip()
    options = ["ls-files", "-z", "--others", "--ignored", f"--exclude-from={exclude}", "--directory"]
    left_out = _run(folder, [*tree, *options]).stdout.split("\0")
    return Commit(folder=clone, sha=sha, changed=sha != base, left_out=tuple(filter(None, left_out)), is_copy=True)


def left_out_line(names: Sequence[str]) -> str:
    """What was left out, in one sentence; empty where nothing was."""
    if not names:
        return ""
    shown = ", ".join(names[:_NAMED_MAX])
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return f"Left out: {shown}{more}. To push one all the same, write `!{names[0]}` into .gitignore."


def _environment(token: str = "") -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    identity = {"GIT_AUTHOR_NAME": "Dormouse", "GIT_AUTHOR_EMAIL": "dormouse@localhost"}
    identity |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in identity.items()}
    return kept | identity | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "DORMOUSE_GIT_TOKEN": token}


def _command(arguments: Sequence[str], *, neutral: bool = True) -> list[str]:
    options = [part for setting in (_NEUTRAL if neutral else ()) for part in ("-c", setting)]
    return ["git", *options, "-c", "credential.helper=", "-c", f"credential.helper={_HELPER}", *arguments]


def _run(folder: Path, arguments: Sequence[str], token: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(arguments),
        cwd=folder,
        env=_environment(token),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PUSH_LIMIT_S,
        check=False,
    )


def _checked(folder: Path, arguments: Sequence[str], *, token: str) -> None:
    result = _run(folder, arguments, token)
    if result.returncode:
        raise PushFailed(f"git failed: {_last_line(result.stderr)}")


def _stream(folder: Path, arguments: Sequence[str], *, token: str, show: Show, neutral: bool = True) -> None:
    """Run git and show the server's lines while it runs."""
    seen: list[str] = []
    with subprocess.Popen(
        _command(arguments, neutral=neutral),
        cwd=folder,
        env=_environment(token),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            seen = [*seen[-50:], line.rstrip()]
            if line.startswith("remote:"):
                show(line.rstrip())
        code = process.wait(PUSH_LIMIT_S)
    if code:
        raise PushFailed(_explain(seen))


def _explain(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    if "non-fast-forward" in text or "fetch first" in text:
        return (
            "The Space has commits that this folder does not have: fetch and merge them, or push with --force to "
            "replace them."
        )
    return f"git could not push: {_last_line(text)}"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("hint:")]
    chosen = next(
        (line for line in lines if line.startswith(("fatal:", "error:", "remote:"))), lines[-1] if lines else ""
    )
    return chosen[:500] or "it gave no reason"


def sdk_of(folder: Path) -> str:
    """The SDK that a folder's README names, or what its files look like; the builder decides in the end."""
    named = _named_sdk(_head(folder / "README.md"))
    if named in SDKS:
        return named
    if (folder / "Dockerfile").exists():
        return "docker"
    if (folder / "index.html").exists() and not (folder / "app.py").exists():
        return "static"
    source = _head(folder / "app.py") + _head(folder / "requirements.txt")
    known = (("streamlit", "streamlit"), ("gradio", "gradio"), ("fastapi", "asgi"), ("starlette", "asgi"))
    return next((sdk for word, sdk in known if word in source), "gradio")


def _named_sdk(readme: str) -> str:
    """The value of `sdk` in the front matter. A client has to read no more of it, and need not refuse anything."""
    lines = readme.splitlines()
    if not lines or lines[0].strip() != "---":
        return ""
    front = itertools.takewhile(lambda line: line.strip() != "---", lines[1:])
    value = next((line.partition(":")[2] for line in front if line.startswith("sdk:")), "")
    return value.split("#")[0].strip().strip("'\"")


def _head(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:20_000]
    except OSError:
        return ""
