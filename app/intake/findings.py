"""All that is wrong with a file, said at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.errors import InvalidModel

LIMIT = 50
"""No more are listed: a small file must not be answered by a large problem."""
WORDS_LIMIT = 1000
"""Names in a hostile file may be long; a finding is cut to this many characters."""


def _below(path: str, field: str) -> str:
    """`layers.outer/inner` of a finding about `layers.inner`."""
    return f"layers.{path}/{field.removeprefix('layers.')}"[:WORDS_LIMIT]


class Findings:
    """Refusals of single layers, collected to be raised together."""

    def __init__(self) -> None:
        self._found: list[dict[str, str]] = []

    @contextmanager
    def of(self, path: str) -> Iterator[None]:
        """Keep what is raised about the layer at this path, and go on."""
        try:
            yield
        except InvalidModel as error:
            own = {"field": f"layers.{path}"[:WORDS_LIMIT], "detail": error.detail[:WORDS_LIMIT]}
            inner = (one | {"field": _below(path, one["field"])} for one in error.errors)
            self._found.extend(inner if error.errors else (own,))

    def check(self) -> None:
        """Raise what was found.

        Raises:
            InvalidModel: in the words of the first finding; all of them are its `errors`.
        """
        if not self._found:
            return
        more = len(self._found) - 1
        listed = "" if more < LIMIT else f", the first {LIMIT} of them"
        rest = f" ({more} more{listed} under errors)" if more else ""
        raise InvalidModel(self._found[0]["detail"] + rest, errors=tuple(self._found[:LIMIT]))
