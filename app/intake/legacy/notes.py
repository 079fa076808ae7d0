"""What the translation of a legacy config finds out on its way."""

from dataclasses import dataclass, field

from app.domain.errors import InvalidModel
from app.domain.model import Mend

Step = tuple[str, str]
"""One step down to a variable's owner: ("child", name) in a model, or a wrapper's attribute."""


@dataclass(frozen=True)
class Scaling:
    """Variables to multiply, because an activation has another slope in Keras 3."""

    path: tuple[Step, ...]
    order: tuple[str, ...]
    """Names of all variables of the owner, in the order in which they are stored."""
    roles: tuple[str, ...]
    """Names of those to multiply; one that is absent (no bias) is passed over."""
    gates: int
    """The last axis holds this many blocks of equal size..."""
    scaled: tuple[int, ...]
    """...of which these are multiplied."""
    factor: float


@dataclass
class Notes:
    """Mends and scalings, in the order in which they were found."""

    mends: list[Mend] = field(default_factory=list)
    scalings: list[Scaling] = field(default_factory=list)

    def mend(self, layer: str | None, what: str, why: str) -> None:
        """Note one change, once."""
        mend = Mend(layer=layer, what=what, why=why)
        if mend not in self.mends:
            self.mends.append(mend)


def refuse(layer: str, reason: str) -> InvalidModel:
    """The sentence for a layer that cannot be mended exactly."""
    return InvalidModel(
        f"Layer {layer!r} of this Keras 2 model cannot be brought to Keras 3 exactly: {reason}."
    )
