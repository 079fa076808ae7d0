"""A Keras model as an ONNX file, by tf2onnx.

Keras' own `model.export(format="onnx")` refuses models that were never called, writes files that no
runtime opens where an operation is not supported, and takes captured constants (Normalization) for
inputs. So the graph is traced and frozen here, and handed to tf2onnx as it is.
"""

import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tf2onnx import optimizer, tf_loader, tfonnx, utils
from tf2onnx.graph import Graph

from workers.exports.onnx_layout import adapt
from workers.names import input_names, output_names

OPSET = 17
"""ONNX Runtime reads it since 2022. From 18 on, tf2onnx no longer recognises global pooling, and
leaves means between transposes."""
HELD_OUT = (keras.layers.Dense, keras.layers.Embedding)
"""Layers whose matrices are read as they are, so that nothing is gained by knowing their values."""
HELD_OUT_BYTES = 2**22
"""From how many on a matrix is left out of the conversion, which copies constants some 20 times:
VGG16 would need 17 GiB."""
LARGEST_BYTES = 2**31 - 2**20
"""Protocol buffers hold at most 2 GiB; a little is left for the graph."""


def write_onnx(model: Any, path: Path) -> None:
    """Write a model for inference: opset 17, layers' names for inputs and outputs, any batch size.

    Layouts are as in Keras (images are NHWC); tf2onnx moves its transposes to where they cancel.

    Raises:
        ValueError: the weights are too large for one file, or an operation has no ONNX counterpart.
    """
    size = sum(int(np.prod(w.shape)) * np.dtype(w.dtype).itemsize for w in model.weights)
    if size > LARGEST_BYTES:
        raise ValueError(f"an ONNX file holds at most 2 GiB; the weights have {size} bytes")
    with _quiet():
        onnx.save(_converted(model), str(path))


def _converted(model: Any) -> Any:
    held = dict(_held_out(model))
    definition, inputs, outputs = _folded(model, held)
    named = dict(zip(inputs, [*input_names(model), *held], strict=True)) | dict(
        zip(outputs, _distinct(output_names(model)), strict=True)
    )

    def translated() -> Any:
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(definition, name="")
            found = tfonnx.process_tf_graph(
                graph,
                opset=OPSET,
                input_names=inputs,
                output_names=outputs,
                tensors_to_rename=named,
                custom_op_handlers={"Erfc": (_erfc, [])},
                continue_on_error=False,
            )
        _widen_scalars(found)
        return found

    with _written_once():
        try:
            converted = optimizer.optimize_graph(translated(), catch_errors=False)
        except Exception:  # noqa: BLE001  whatever a pass trips over, the graph is right without it
            # Translated anew, as passes change what they are given. By default tf2onnx copies all
            # weights before each pass instead, to take back one that fails.
            converted = optimizer.optimize_graph(translated(), catch_errors=True)
    proto = converted.make_model(model.name, graph_name=model.name)
    del converted
    _name_batch_axes(proto)
    adapt(proto)
    onnx.checker.check_model(proto)
    _fill_in(proto.graph, held)
    return proto


def _folded(model: Any, held: Mapping[str, Any]) -> tuple[Any, list[str], list[str]]:
    """The graph with its variables as constants, folded with each other; inputs and outputs."""
    frozen = convert_variables_to_constants_v2(
        _traced(model, list(held.values())), lower_control_flow=False, aggressive_inlining=True
    )
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [tensor.name for tensor in frozen.outputs]
    definition = frozen.graph.as_graph_def(add_shapes=True)
    # Functions and graphs refer to each other: without this, all constants are there twice more.
    del frozen
    gc.collect()
    with tf.Graph().as_default():
        # Folds batch normalisation too, and inlines functions.
        return tf_loader.tf_optimize(inputs, outputs, definition), inputs, outputs


def _held_out(model: Any) -> Iterator[tuple[str, Any]]:
    """Large matrices that stay inputs until the end, by a name that no layer has."""
    seen: set[int] = set()
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, HELD_OUT) or getattr(layer, "quantization_mode", None):
            continue
        for variable in layer.weights:
            size = int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize
            if id(variable) not in seen and size >= HELD_OUT_BYTES:
                seen.add(id(variable))
                yield f"{layer.name}/{variable.name}:{len(seen)}", variable


def _fill_in(graph: Any, held: Mapping[str, Any]) -> None:
    """Make inputs constants, in place."""
    for entry in [each for each in graph.input if each.name in held]:
        graph.input.remove(entry)
        values = keras.ops.convert_to_numpy(held[entry.name])
        graph.initializer.append(numpy_helper.from_array(values, entry.name))


def _traced(model: Any, held: Sequence[Any] = ()) -> Any:
    """The model's inference as a concrete function of its inputs, in the model's order.

    Values of the variables in `held` are further inputs.
    """
    structure = getattr(model, "_inputs_struct", None)

    def infer(*given: Any) -> list[Any]:
        inputs, values = given[: len(model.inputs)], given[len(model.inputs) :]
        fed = inputs[0] if structure is None else keras.tree.pack_sequence_as(structure, inputs)
        with keras.StatelessScope(state_mapping=list(zip(held, values, strict=True))):
            outputs = keras.tree.flatten(model(fed, training=False))
        # An identity each: a tensor that is put out twice needs two names.
        return [tf.identity(output) for output in outputs]

    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input_{number}")
        for number, tensor in enumerate(model.inputs)
    ] + [
        tf.TensorSpec(variable.shape, variable.dtype, name=f"held_{number}")
        for number, variable in enumerate(held)
    ]
    eager = tf.config.functions_run_eagerly()
    # Traces through functions inside layers: Keras compiles grouped convolutions with XLA, which
    # would stay a call that ONNX does not know.
    tf.config.run_functions_eagerly(True)
    try:
        return tf.function(infer, autograph=False).get_concrete_function(*signature)
    finally:
        tf.config.run_functions_eagerly(eager)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names without repetition: a second `a` becomes `a_1`."""
    found: list[str] = []
    for name in names:
        unique, count = name, 0
        while unique in found:
            count += 1
            unique = f"{name}_{count}"
        found.append(unique)
    return found


def _erfc(context: Any, node: Any, name: str, _: list[Any]) -> None:
    """1 - erf(x) for TensorFlow's Erfc, on which exact GELU rests and which ONNX lacks."""
    (x,), (output,) = node.input, node.output
    dtype, shape = context.get_dtype(output), context.get_shape(output)
    one = np.ones((), utils.map_onnx_to_numpy_type(dtype))
    context.remove_node(name)
    erf = context.make_node("Erf", [x], dtypes=[dtype], shapes=[shape])
    context.make_node(
        "Sub",
        [context.make_const(utils.make_name("one"), one).output[0], erf.output[0]],
        outputs=[output],
        name=name,
        dtypes=[dtype],
        shapes=[shape],
    )


def _name_batch_axes(proto: Any) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].HasField("dim_value"):
            axes[0].dim_param = "batch"


def _widen_scalars(graph: Any) -> None:
    """Scalars that are added become vectors of one value, in place.

    tf2onnx's pass over transposes takes what is added to a convolution for a bias, looks for its
    largest axis, and fails where there is none: in every hard swish, whose model then kept all its
    transposes (108 in MobileNetV3Small).
    """
    for node in list(graph.get_nodes()):
        if node.type != "Add" or not graph.get_shape(node.output[0]):
            continue
        for number, source in enumerate(node.inputs):
            if source is not None and source.is_scalar():
                value = source.get_tensor_value(as_list=False).reshape(1)
                wide = graph.make_const(utils.make_name("vector"), value)
                graph.replace_input(node, node.input[number], wide.output[0], number)


@contextmanager
def _written_once() -> Iterator[None]:
    """tf2onnx writes all weights into its protocol buffers after every one of some 40 passes, where
    nobody reads them and nothing is ever freed. Before it makes a model it writes them anyway."""
    before = Graph.update_proto
    Graph.update_proto = lambda *_: None
    try:
        yield
    finally:
        Graph.update_proto = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines of tf2onnx and TensorFlow: what matters is raised."""
    levels = {logging.getLogger("tf2onnx"): logging.CRITICAL, tf.get_logger(): logging.ERROR}
    before = {logger: logger.level for logger in levels}
    try:
        for logger, level in levels.items():
            logger.setLevel(level)
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
