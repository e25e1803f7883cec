"""Real git, as an author uses it."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
}


def git(*args: str, cwd: Path, check: bool = True) -> str:
    """Run git; its output and errors together."""
    done = subprocess.run(
        ["git", *args],
        check=False,
        cwd=cwd,
        env=IDENTITY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"git {' '.join(args)} failed with {done.returncode}:\n{done.stdout}")
    return done.stdout


def push_files(remote: str, files: Mapping[str, str | bytes] | Path, *, message: str) -> str:
    """Clone, replace everything by these files, commit and push to main; what git printed."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "work"
        git("clone", "-q", remote, str(folder), cwd=Path(temporary))
        git("checkout", "-q", "-B", "main", cwd=folder)
        for old in folder.iterdir():
            if old.name not in (".git", ".gitattributes"):
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        _put(folder, files)
        git("add", "-A", cwd=folder)
        git("commit", "-q", "--allow-empty", "-m", message, cwd=folder)
        return git("push", "origin", "main", cwd=folder)


def _put(folder: Path, files: Mapping[str, str | bytes] | Path) -> None:
    if isinstance(files, Path):
        shutil.copytree(files, folder, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        return
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
