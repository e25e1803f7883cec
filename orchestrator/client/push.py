"""A folder -> a commit on `main` of a Space, by real git.

A folder that is a repository pushes its HEAD. Any other folder is committed as it is, honouring its `.gitignore`, in a
throw-away clone, so that nothing appears in the author's folder. The token travels in git's environment and through a
credential helper: never in a command line, an address or a file.
"""

import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
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

Show = Callable[[str], None]


class PushFailed(Refused):
    """git refused; its own output was shown already."""


def push(folder: Path, remote: str, *, token: str, show: Show, force: bool = False, as_copy: bool = False) -> str:
    """Push `folder` to `main` of `remote`; the commit id. `show` gets git's `remote:` lines as they come.

    With `as_copy` its files are committed as they lie there even if it is a repository.

    Raises Invalid for what is no folder or is empty, PushFailed where git refuses.
    """
    if not folder.is_dir():
        raise Invalid(f"{folder} is no folder.")
    if not as_copy and _is_repository(folder):
        return _push_head(folder, remote, token=token, show=show, force=force)
    return _push_copy(folder, remote, token=token, show=show)


def _is_repository(folder: Path) -> bool:
    """Whether the folder itself is the top of a repository that has a commit."""
    if not (folder / ".git").exists():
        return False
    return _run(folder, ["rev-parse", "--verify", "--quiet", "HEAD"]).returncode == 0


def _push_head(folder: Path, remote: str, *, token: str, show: Show, force: bool) -> str:
    options = ["--force"] if force else []
    _stream(folder, ["push", *options, remote, "HEAD:refs/heads/main"], token=token, show=show, neutral=False)
    return _run(folder, ["rev-parse", "HEAD"]).stdout.strip()


def _push_copy(folder: Path, remote: str, *, token: str, show: Show) -> str:
    """Commit the folder's files on top of the Space's `main`."""
    with tempfile.TemporaryDirectory(prefix="dormouse-push-") as name:
        clone = Path(name) / "clone"
        _checked(Path(name), ["init", "--quiet", "--template=", str(clone)], token=token)
        _checked(clone, ["fetch", "--quiet", remote, "+refs/heads/*:refs/heads/origin/*"], token=token)
        if _run(clone, ["rev-parse", "--verify", "--quiet", "refs/heads/origin/main"]).returncode == 0:
            _checked(clone, ["update-ref", "HEAD", "refs/heads/origin/main"], token=token)
        # git reads the author's files where they are: nothing is copied, and .gitignore counts.
        tree = ["--git-dir", str(clone / ".git"), "--work-tree", str(folder)]
        _checked(folder, [*tree, "add", "--all", "--", "."], token=token)
        if not _run(folder, [*tree, "ls-files"]).stdout.strip():
            raise Invalid(f"{folder} has no files to push.")
        if _run(folder, [*tree, "diff", "--cached", "--quiet", "HEAD"]).returncode != 0:
            _checked(folder, [*tree, "commit", "--quiet", "--message", f"Push {folder.resolve().name}"], token=token)
        _stream(clone, ["push", remote, "HEAD:refs/heads/main"], token=token, show=show)
        return _run(clone, ["rev-parse", "HEAD"]).stdout.strip()


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
