"""What a succeeded job came to."""

import importlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.client.errors import InvalidRequest
from app.client.resources import JobState
from app.domain.errors import SecateurError
from app.domain.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Outcome:
    """A job's figures; what both clients' results have in common."""

    def __init__(self, state: JobState) -> None:
        if state.metrics is None:
            raise InvalidRequest(
                f"Job {state.id} has no figures: it is {state.status}. Wait for it to succeed."
            )
        self.state = state
        self.metrics: Metrics = state.metrics

    @property
    def verdict(self) -> tuple[str, ...]:
        """In words: what became smaller and faster, and what did not."""
        return self.metrics.verdict

    @property
    def goal_reached(self) -> bool:
        """Whether the spec's target was; true where the criterion decides how much goes."""
        return self.metrics.target is None or self.metrics.target.met

    def plot(self, theme: str = "light") -> "Figure":
        """Before and after: sizes, quality, speed, layers, training (`light` or `dark`)."""
        from app.plots.job import drawn  # Half a second, which most callers save.

        return drawn(self.metrics, "dark" if theme == "dark" else "light")

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {sentence}" for sentence in self.verdict)


class Loading:
    """A folder for a model's file while Keras reads it."""

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="secateur-"))
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def load(path: Path) -> Any:
    """A `keras.Model` out of a file.

    The one place on this side that touches Keras: by name, when somebody asks for it, and in the
    caller's own process, which has it. The service never comes here, and nothing of `app` imports
    Keras.

    Raises:
        SecateurError: Keras is not installed.
    """
    try:
        keras = importlib.import_module("keras")
    except ImportError as error:
        raise SecateurError(
            f"Keras is needed to load {path.name} ({error}): pip install keras tensorflow; or "
            "download the file with result.download('model.keras', …)."
        ) from error
    return keras.saving.load_model(path)
