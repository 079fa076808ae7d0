"""The static reading of an uploaded model file. Imports neither Keras nor TensorFlow."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain.errors import InvalidModel
from app.domain.model import LayerInfo, Mend, ModelFormat, ModelInfo, TensorInfo
from app.intake import archive, hdf5, hub
from app.intake.archive import KerasArchive
from app.intake.bounds import (
    check_building,
    check_graph_size,
    check_numbers,
    check_projection,
    check_weight_sizes,
)
from app.intake.compile_config import read_training
from app.intake.config import (
    Config,
    Graph,
    Layer,
    dtype_name,
    input_layers,
    input_shape,
    parse_graph,
    parse_json,
    without_building,
)
from app.intake.dtypes import output_dtype
from app.intake.expected import check_shapes
from app.intake.findings import Findings
from app.intake.legacy import check_backend, convert, is_legacy
from app.intake.magic import SAVE_ADVICE, ZIP_MAGIC, check_model_magic
from app.intake.paths import inner_layers
from app.intake.refusals import check_layers, check_model_class, check_root
from app.intake.shapes import layer_inputs, output_shapes
from app.intake.variables import (
    Variables,
    archive_variables,
    check_values,
    layers_group,
    legacy_variables,
)

SETTINGS = [
    "units",
    "filters",
    "kernel_size",
    "strides",
    "padding",
    "dilation_rate",
    "groups",
    "depth_multiplier",
    "pool_size",
    "activation",
    "recurrent_activation",
    "rate",
    "axis",
    "use_bias",
    "input_dim",
    "output_dim",
    "num_heads",
    "key_dim",
    "merge_mode",
    "return_sequences",
    "target_shape",
    "size",
    "alpha",
    "negative_slope",
    "momentum",
    "epsilon",
]


@dataclass(frozen=True)
class _Reading:
    """What one file holds, whichever way it is laid out."""

    format: ModelFormat
    keras_version: str | None
    legacy: bool
    graph: Graph
    variables: Variables
    training: Any
    mends: tuple[Mend, ...]
    requires: tuple[str, ...] = ()
    graph_known: bool = True


def inspect_model(path: Path, filename: str, scratch: Path | None = None) -> ModelInfo:
    """Read a model file: what it is, what goes in and out, its layers and their parameters.

    The content decides, not the name: an HDF5 file called `model.keras` is read as HDF5.

    Args:
        path: the stored upload.
        filename: what the user calls it, for sentences.
        scratch: folder for a temporary copy of compressed weights; beside `path` if not given.

    Raises:
        InvalidModel: the file is no Keras model that can be pruned; says why and what to do.
    """
    magic = check_model_magic(path, filename)
    try:
        with _reading(path, magic, filename, scratch or path.parent) as reading:
            return _describe(reading)
    except InvalidModel:
        raise
    except Exception as error:
        # Hostile and damaged files find ever new ways to fail; none of them is the service's.
        raise InvalidModel(
            f"{filename} cannot be read as a Keras model; it is damaged "
            f"({type(error).__name__}: {str(error)[:200]}). {SAVE_ADVICE}"
        ) from error


@contextmanager
def _reading(path: Path, magic: bytes, filename: str, scratch: Path) -> Iterator[_Reading]:
    if magic.startswith(ZIP_MAGIC):
        with path.open("rb") as file:
            opened = KerasArchive(file)
            with opened.weights(scratch) as weights, hdf5.opened(weights) as stored:
                yield _read_archive(opened, stored)
    else:
        with hdf5.opened(path) as stored:
            yield _read_hdf5(stored, filename)


def _read_archive(opened: KerasArchive, stored: Any) -> _Reading:
    config = parse_json(opened.config(), archive.CONFIG)
    metadata = parse_json(opened.metadata(), archive.METADATA)
    version = metadata.get("keras_version")
    version = version if isinstance(version, str) else None
    training, legacy = config.get("compile_config"), is_legacy(version, config)
    check_building(config)
    if hub.is_hub(config):
        config = without_building(config)
        check_model_class(config)
        graph, variables = hub.stored_graph(config, layers_group(stored))
        needs = _requirements(config)
        return _Reading("keras", version, False, graph, variables, training, (), needs, False)
    conversion = convert(config, legacy=legacy)
    graph = checked_graph(conversion.config)
    variables = archive_variables(graph, stored, legacy=legacy)
    mends, needs = conversion.mends, _requirements(config)
    return _Reading("keras", version, legacy, graph, variables, training, mends, needs)


def _requirements(config: Config) -> tuple[str, ...]:
    return (hub.REQUIREMENT,) if hub.needs_hub(config) else ()


def _read_hdf5(stored: Any, filename: str) -> _Reading:
    text = hdf5.text_attribute(stored, "model_config")
    if text is None:
        raise InvalidModel(
            f"{filename} is an HDF5 file without a model config, most likely weights only, so "
            f"the layers are not known. {SAVE_ADVICE}"
        )
    config = parse_json(text, "model_config")
    version = hdf5.text_attribute(stored, "keras_version")
    training = hdf5.text_attribute(stored, "training_config")
    legacy = is_legacy(version, config)
    if legacy:
        check_backend(hdf5.text_attribute(stored, "backend"))
    check_building(config)
    conversion = convert(config, legacy=legacy, hdf5_file=True)
    graph = checked_graph(conversion.config)
    variables = legacy_variables(graph, stored)
    parsed = parse_json(training, "training_config") if training else None
    mends, needs = conversion.mends, _requirements(config)
    return _Reading("h5", version, legacy, graph, variables, parsed, mends, needs)


def checked_graph(config: Config) -> Graph:
    """The graph of a model's config, all of whose layers can be used.

    Raises:
        InvalidModel: some cannot, or there is no graph.
    """
    class_name = config.get("class_name")
    if class_name not in ("Sequential", "Functional"):
        raise InvalidModel(
            f"The model is of class {class_name!r}. Only Sequential and Functional models carry "
            "their graph in the file; a subclassed model is code. Rebuild it as one of these "
            "and save it again; save models of KerasHub as .keras."
        )
    config = without_building(config)
    graph = parse_graph(config)
    check_graph_size(graph)
    check_root(config)
    check_layers(graph)
    return graph


def _describe(reading: _Reading) -> ModelInfo:
    graph = reading.graph
    if reading.graph_known and not input_layers(graph):
        raise InvalidModel(
            "The model does not say what shape its input has. Build it (call it once, or add a "
            "keras.Input as its first layer) and save it again."
        )
    findings = Findings()
    for layer in graph.layers:
        with findings.of(layer.name):
            check_numbers(layer)
    findings.check()
    inputs = layer_inputs(graph)
    for layer in graph.layers:
        with findings.of(layer.name):
            found = reading.variables[layer.name]
            check_shapes(layer, inputs.get(layer.name, []), found)
            if reading.graph_known:
                check_weight_sizes(layer, found)
                check_projection(layer, found)
            check_values(layer, found)
    findings.check()
    layers = tuple(_layer(layer, reading.variables) for layer in graph.layers)
    return ModelInfo(
        format=reading.format,
        keras_version=reading.keras_version,
        legacy=reading.legacy,
        inputs=tuple(_input(layer, reading.graph_known) for layer in input_layers(graph)),
        outputs=_outputs(graph),
        parameters=sum(layer.parameters for layer in layers),
        layers=layers,
        output_activations=tuple(_activation(layer) for layer in output_layers(graph)),
        training=read_training(reading.training),
        mends=reading.mends,
        requires=reading.requires,
        graph_known=reading.graph_known,
        inner_layers=inner_layers(graph, reading.variables, hdf5_file=reading.format == "h5"),
    )


def _layer(layer: Layer, variables: Variables) -> LayerInfo:
    return LayerInfo(
        name=layer.name,
        class_name=layer.class_name.rsplit(">", 1)[-1],
        parameters=sum(variable.size for variable in variables[layer.name]),
        trainable=bool(layer.config.get("trainable", True)),
        settings={
            key: value
            for key in SETTINGS
            if isinstance(value := layer.config.get(key), (str, int, float, bool, list))
        },
    )


def _input(layer: Layer, graph_known: bool) -> TensorInfo:
    default = "float32" if graph_known else None
    return TensorInfo(
        name=layer.name, shape=input_shape(layer), dtype=dtype_name(layer.config) or default
    )


def output_layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers whose outputs are the model's."""
    if graph.sequential:
        return graph.layers[-1:]
    by_name = {layer.name: layer for layer in graph.layers}
    return tuple(by_name[ref.layer] for ref in graph.outputs)


def _outputs(graph: Graph) -> tuple[TensorInfo, ...]:
    pairs = zip(output_layers(graph), output_shapes(graph), strict=True)
    return tuple(
        TensorInfo(name=layer.name, shape=shape, dtype=output_dtype(layer))
        for layer, shape in pairs
    )


def _activation(layer: Layer) -> str | None:
    """The activation that an output ends in, through wrappers and nested models."""
    if layer.inner is not None:
        ends = output_layers(layer.inner)
        return _activation(ends[0]) if len(ends) == 1 else None
    config = layer.config
    wrapped = config.get("layer")
    if layer.class_name == "TimeDistributed" and isinstance(wrapped, dict):
        config = wrapped.get("config", {})
    activation = config.get("activation")
    if isinstance(activation, dict):
        activation = activation.get("config")
    if layer.class_name == "Softmax":
        return "softmax"
    return activation if isinstance(activation, str) else None
