"""Reads docker-compose.yml as Compose does: merged, and with the environment filled in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
OURS = ("api", "reaper", "worker", "worker-quick")
OPTIONAL = ("worker-large", "redis-replica", "sentinel")
"""Started where their profile is named."""

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\})")


class Missing(Exception):
    """A variable without which the file is refused; says what to set."""


def load(environment: Mapping[str, str]) -> dict[str, Any]:
    """The file with `${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced.

    Raises:
        Missing: a required variable is not set.
    """
    return _fill_in(yaml.safe_load(COMPOSE.read_text()), environment)


def _fill_in(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill_in(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_in(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if said := environment.get(found["name"], ""):
            return said
        if found["kind"] == "?":
            raise Missing(found["word"])
        return found["word"] or ""

    return _VARIABLE.sub(replace, value)
