"""Facts about the files of a snapshot."""

import html
import json
from urllib.parse import quote

_POINTER = b"version https://git-lfs.github.com/spec/"


def is_lfs_pointer(head: bytes, size: int) -> bool:
    """Whether a file is the small text that stands for a large one."""
    return size < 1024 and head.startswith(_POINTER)


def first_page(page: str) -> str:
    """An index.html that leads to the page that the front matter names, with query and fragment."""
    address = quote(page)
    return (
        '<!doctype html><meta charset="utf-8"><title>…</title>'
        f"<script>location.replace({json.dumps(address)} + location.search + location.hash)</script>"
        f'<noscript><meta http-equiv="refresh" content="0; url={html.escape(address)}"></noscript>\n'
    )
