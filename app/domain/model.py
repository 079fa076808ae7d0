"""What is known of an uploaded model without running it."""

from typing import Any, Literal

from pydantic import Field

from app.domain.base import Record

ModelFormat = Literal["keras", "h5"]


class TensorInfo(Record):
    """One input or output; `shape` has the batch axis first, `None` where the length varies."""

    name: str
    shape: tuple[int | None, ...] | None
    """None where it can only be known by running the model."""
    dtype: str | None


class LayerInfo(Record):
    """One layer, in the model's order."""

    name: str
    class_name: str = Field(alias="class")
    parameters: int
    trainable: bool = True
    settings: dict[str, Any] = {}
    """The few settings that tell what the layer does: units, filters, kernel_size, activation."""


class TrainingInfo(Record):
    """What the model's compile config says; names only."""

    loss: str | None = None
    loss_from_logits: bool | None = None
    metrics: tuple[str, ...] = ()
    optimizer: str | None = None


class Mend(Record):
    """One change that makes a legacy file compute under Keras 3 what it computed under Keras 2."""

    layer: str | None
    what: str
    why: str


class ModelInfo(Record):
    """The static reading of a model file."""

    format: ModelFormat
    keras_version: str | None
    legacy: bool
    """Written by Keras 2."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    layers: tuple[LayerInfo, ...]
    output_activations: tuple[str | None, ...] = ()
    """Activation of each output's layer, where it names one."""
    training: TrainingInfo | None = None
    mends: tuple[Mend, ...] = ()
    requires: tuple[str, ...] = ()
    """Packages beyond Keras whose layers the model is built of, by their names on PyPI."""
    graph_known: bool = True
    """False where a class of a required package builds the graph: the file then lists neither
    outputs nor calls, and `layers` are those that keep state, in no order of computation."""
    inner_layers: tuple[str, ...] = ()
    """Paths of the layers inside nested models, wrappers and attention: `encoder/dense`."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """All that a spec's layer patterns can name: the layers, and those inside them."""
        return (*(layer.name for layer in self.layers), *self.inner_layers)
