"""What can be removed from a model, before anybody asks for it: `GET /v1/models/{id}/analysis`."""

from pydantic import Field

from app.domain.base import Record


class AnalysedLayer(Record):
    """One layer, or one operation between layers, of the model's graph."""

    name: str
    """Layers inside a nested model are called `outer/inner`."""
    class_name: str = Field(alias="class")
    output_shape: tuple[int | None, ...] | None = None
    """Of the first output of its first call, batch axis first; `null` where a length varies."""
    units: int | None = None
    """Output units (channels, features); null for layers that make none of their own."""
    prunable: int = 0
    """Units that may be removed, as long as each group of coupled units keeps one."""
    coupled_with: tuple[str, ...] = ()
    """Layers that lose a unit whenever this one does, because their outputs meet."""
    parameters: int = 0
    """Numbers that the layer stores."""
    macs: int = 0
    """Multiply-accumulates for one sample."""
    frozen: str | None = None
    """Why (some of) its units stay; null where nothing holds them."""
    heads: int | None = None
    """Attention heads; null for layers without."""


class ModelAnalysis(Record):
    """What the engine finds in a model without changing it."""

    model: str
    engine: str
    """Version of Secateur whose engine looked; another version looks anew."""
    parameters: int
    macs: int
    """Multiply-accumulates for one sample."""
    seconds: float
    """Time that the engine took, without loading the file."""
    layers: tuple[AnalysedLayer, ...]
    """In the model's order."""
    edges: tuple[tuple[str, str], ...]
    """The model's graph: [from, to], by the names of `layers`."""
    notes: tuple[str, ...] = ()
