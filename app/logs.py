"""Structured logs: one JSON object a line on standard error, with job and request ids."""

import logging
import re
import sys
from typing import Any

import structlog

from app.observe import traces
from app.settings import Settings

SECRETS = re.compile(
    r"(sct_[0-9a-f]{12}_)[0-9a-f]{48}|(://[^\s:/@]*:)[^\s/@]+(?=@)|(whsec_)[A-Za-z0-9+/=]{20,}"
)
"""Of API keys, the part after their id; of addresses, the password; webhooks' secrets."""


def without_secrets(_: Any, __: str, line: Any) -> str:
    """A finished line, whoever wrote it and whatever a client put into a path."""
    return SECRETS.sub(lambda found: f"{found[1] or found[2] or found[3]}…", str(line))


def _traced(_: Any, __: str, event: Any) -> Any:
    """The ids of the trace and span that the line belongs to, where there is one."""
    return traces.ids() | event


def configure(settings: Settings, part: str = "api") -> None:
    """Send structlog and the standard library's loggers the same way.

    Args:
        settings: format and least level.
        part: which part of the service this process is; a thread may say otherwise for itself.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        lambda _, __, event: {"part": part} | event,
        _traced,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if settings.log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
                without_secrets,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in (
        "uvicorn.access",
        "celery.worker.strategy",
        "alembic",
        "kombu",
        "amqp",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for own in ("uvicorn", "uvicorn.error"):
        logging.getLogger(own).handlers.clear()
        logging.getLogger(own).propagate = True
