"""Writes bytecode for Python files. A script: it runs under the environment's base interpreter, with `-I -S -B`.

    python -I -S -B compile_files.py STAGING PART PARTS ROOT...

Compiling executes nothing of what is compiled, and `-S` keeps the start-up files (`.pth`) of packages out. Files are
written in STAGING and renamed into place, so that somebody who links the folder meanwhile never sees a half-written or
vanishing name. Of each ROOT every PARTS-th file from PART on is done; a file with current bytecode is left alone.
Folders called `tests` of packages are skipped: nobody imports them, and they are a third of the work.

Mistakes are printed as JSON lines {"file", "line", "message"}. It must run on every Python 3, so it stays plain; it
starts once per push, so it imports little (`os.path` is there already, `pathlib` is not).
"""

# ruff: noqa: PTH101, PTH103, PTH104, PTH113, PTH114, PTH116, PTH118, PTH120, PTH123

import importlib.util
import json
import os
import py_compile
import sys
from collections.abc import Iterator, Sequence


def python_files(root: str) -> Iterator[str]:
    if os.path.isfile(root):
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "tests", ".git"))
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(".py") and not os.path.islink(path):
                yield path


def is_current(path: str, target: str) -> bool:
    try:
        with open(target, "rb") as file:
            head = file.read(16)
        stat = os.stat(path)
    except OSError:
        return False
    wanted = importlib.util.MAGIC_NUMBER + b"\0\0\0\0"
    wanted += (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (stat.st_size & 0xFFFFFFFF).to_bytes(
        4, "little"
    )
    return head == wanted


def write(path: str, target: str, scratch: str) -> None:
    py_compile.compile(path, cfile=scratch, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.chmod(scratch, 0o444)
    os.rename(scratch, target)


def report(path: str, error: Exception) -> None:
    cause = getattr(error, "exc_value", error)
    line = getattr(cause, "lineno", None)
    message = getattr(cause, "msg", None) or str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    print(json.dumps({"file": path, "line": line, "message": str(message)[:300]}), flush=True)


def main(staging: str, part: int, parts: int, roots: Sequence[str]) -> None:
    scratch = os.path.join(staging, f"part-{part}.pyc")
    number = 0
    for root in roots:
        for path in python_files(root):
            number += 1
            if number % parts != part:
                continue
            target = importlib.util.cache_from_source(path)
            if is_current(path, target):
                continue
            try:
                write(path, target, scratch)
            except (py_compile.PyCompileError, ValueError, RecursionError, MemoryError, OSError) as error:
                report(path, error)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
