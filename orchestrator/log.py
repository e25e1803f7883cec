"""Logging of every process: one JSON object per line on standard error.

`dormouse up` reads the lines of its children and shows them as one coloured log; with `DORMOUSE_LOG_JSON=1`, and on
a cluster, they go out as they are. Libraries that use the standard `logging` module (uvicorn, alembic, ...) are
routed into the same stream. Nothing that looks like a credential may leave through here: names that say so and the
well-known shapes in texts are masked, whoever logged them.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_MASK = "***"
_SECRET_NAMES = re.compile(
    r"(^|_)(token|tokens|secret|secrets|password|authorization|cookie|credentials?)$", re.IGNORECASE
)
_SECRET_SHAPES = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + _MASK),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1" + _MASK + "@"),
    (re.compile(r"(?i)([?&](?:__sign|token|access_token)=)[^&\s\"']+"), r"\1" + _MASK),
    (re.compile(r"\b(hfb?)_[A-Za-z0-9_-]{16,}"), r"\1_" + _MASK),
)
# Libraries whose everyday lines say nothing that ours do not say better.
_QUIET = ("httpx", "httpcore", "uvicorn.access", "uvicorn.error", "alembic", "asyncio", "aiohttp.access")

Record = MutableMapping[str, Any]


def mask(text: str) -> str:
    """`text` without anything that has the shape of a credential."""
    for shape, replacement in _SECRET_SHAPES:
        text = shape.sub(replacement, text)
    return text


def redact(_logger: object, _method: str, record: Record) -> Record:
    """Processor: mask values by the name of their key, and credentials inside texts."""
    for key, value in record.items():
        if _SECRET_NAMES.search(key):
            record[key] = _MASK
        elif isinstance(value, str):
            record[key] = mask(value)
    return record


def configure(process: str, *, level: str = "info") -> None:
    """Set up structlog and the standard library's logging of this process. May be called again."""

    def name_process(_logger: object, _method: str, record: Record) -> Record:
        record.setdefault("process", process)
        return record

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(key="t"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        name_process,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_library],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _name_library(logger: object, _method: str, record: Record) -> Record:
    """Lines of libraries carry the name of the library, so that they are told from ours."""
    record["library"] = getattr(record.get("_record"), "name", None) or getattr(logger, "name", "")
    return record
