"""Latency of two models, interleaved in one run: what is slow today is slow for both."""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from app.domain.metrics import LatencyValue
from workers.names import input_names

Array = NDArray[Any]
Call = Callable[[], object]
Seconds = tuple[Array, Array]
"""Of each call of the one and of the other model, in pairs."""
WARM_UP_CALLS = 6
FREE_AXIS = 32
"""Length given to axes of variable length."""
BUDGET_SECONDS = 20.0
"""For one comparison; slow models are repeated less often, and the report says how often."""
LEAST_REPEATS = 5
INSTANCES = 3
"""Interpreters of each LiteRT file and sessions of each ONNX file, called in rotation: where in
memory an interpreter happens to lie moves its speed by up to a quarter, in every call alike, which
no interval would show."""
SILENT = 4
"""ONNX Runtime's log level that leaves out what it raises as well."""


def probe(model: Any, batch_size: int, seed: int) -> dict[str, Array]:
    """Random inputs by name, shaped for the model, of `batch_size` samples.

    Normal numbers; whole numbers below the vocabulary where an Embedding reads them.
    """
    random = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for name, tensor in zip(input_names(model), model.inputs, strict=True):
        shape = [batch_size, *(axis or FREE_AXIS for axis in tensor.shape[1:])]
        rows = _vocabulary(model, tensor)
        if rows is not None or "int" in str(tensor.dtype) or tensor.dtype == "bool":
            inputs[name] = random.integers(0, rows or 2, shape).astype(str(tensor.dtype))
        else:
            inputs[name] = random.standard_normal(shape).astype(str(tensor.dtype))
    return inputs


def _vocabulary(model: Any, tensor: Any) -> int | None:
    """Rows of the smallest Embedding in the layers that read an input, None without one."""
    readers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if any(each is tensor for node in layer._inbound_nodes for each in node.input_tensors)
    ]
    inner = [each for reader in readers for each in reader._flatten_layers()]
    return min((e.input_dim for e in inner if isinstance(e, keras.layers.Embedding)), default=None)


def keras_call(model: Any, inputs: Mapping[str, Array]) -> Call:
    """A call of the model's compiled function; all threads."""
    values: Any = [tf.constant(value) for value in inputs.values()]
    values = values[0] if len(values) == 1 else values
    function = tf.function(lambda x: model(x, training=False), jit_compile=False)
    concrete = function.get_concrete_function(values)

    def call() -> object:
        result = concrete(values)
        # Ask for the numbers: the call itself may return before they are there.
        return [np.asarray(part) for part in tf.nest.flatten(result)]

    return call


def litert_call(file: Path, inputs: Mapping[str, Array], threads: int = 1) -> Call:
    """A call of a LiteRT file, by one of several interpreters in rotation.

    Raises:
        ValueError, RuntimeError: LiteRT cannot run the file with these shapes.
    """
    calls = itertools.cycle([one_interpreter(file, inputs, threads) for _ in range(INSTANCES)])
    return lambda: next(calls)()


def one_interpreter(file: Path, inputs: Mapping[str, Array], threads: int = 1) -> Call:
    """A call of a LiteRT file, always by the same interpreter.

    Raises:
        ValueError, RuntimeError: LiteRT cannot run the file with these shapes.
    """
    interpreter = Interpreter(model_path=str(file), num_threads=threads)
    wanted = interpreter.get_input_details()
    values = [match(detail, inputs) for detail in wanted]
    for detail, value in zip(wanted, values, strict=True):
        interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def call() -> object:
        for detail, value in zip(wanted, values, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return call


def onnxruntime_call(file: Path, inputs: Mapping[str, Array], threads: int = 1) -> Call:
    """A call of an ONNX file, by one of several ONNX Runtime sessions in rotation.

    Args:
        file: as `workers.exports` writes it: named inputs in the model's order.
        inputs: of `probe`.
        threads: that one session may use.

    Raises:
        RuntimeError: ONNX Runtime cannot run the file with these inputs.
    """
    try:
        sessions = [one_session(file, inputs, threads) for _ in range(INSTANCES)]
        sessions[0]()
    except Exception as error:
        # Its errors have no base class but Exception.
        raise RuntimeError(str(error)) from error
    calls = itertools.cycle(sessions)
    return lambda: next(calls)()


def one_session(file: Path, inputs: Mapping[str, Array], threads: int = 1) -> Call:
    """A call of an ONNX file, always by the same session."""
    import onnxruntime as ort  # It starts a thread, and the template may not have one.

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wanted = zip(session.get_inputs(), inputs.values(), strict=True)
    # By name; by place where two models are compared whose inputs have other names.
    values = {each.name: inputs.get(each.name, placed) for each, placed in wanted}
    outputs = [each.name for each in session.get_outputs()]
    return lambda: session.run(outputs, values)


def match(detail: Mapping[str, Any], inputs: Mapping[str, Array]) -> Array:
    """The input that a LiteRT tensor (`serving_default_<input>:0`) stands for, else by shape."""
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    named = detail["name"].removeprefix("serving_default_").rpartition(":")[0]
    if named in inputs:
        return inputs[named]
    signature = tuple(detail["shape_signature"][1:])
    return next(
        value
        for value in inputs.values()
        if all(a in (-1, b) for a, b in zip(signature, value.shape[1:], strict=True))
    )


def compare(
    before: Call, after: Call, repeats: int, budget_seconds: float = BUDGET_SECONDS
) -> Seconds:
    """Seconds of each call, [repeats] each, alternating which goes first.

    Repeats less often where `budget_seconds` are spent before.
    """
    for _ in range(WARM_UP_CALLS):
        before()
        after()
    started = time.perf_counter()
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            begun = time.perf_counter()
            (before, after)[which]()
            seconds[which].append(time.perf_counter() - begun)
        if turn + 1 >= LEAST_REPEATS and time.perf_counter() - started > budget_seconds:
            break
    return np.asarray(seconds[0]), np.asarray(seconds[1])


def speed_up(before: Array, after: Array) -> tuple[float, tuple[float, float]]:
    """Median ratio of paired calls, with its 95 % interval."""
    return median(before / after)


def median(values: Array) -> tuple[float, tuple[float, float]]:
    """The median of independent values, with its 95 % interval by order statistics.

    The k-th and (n-k+1)-th of n sorted values enclose the median with a confidence that the
    binomial distribution gives; k is approximated by n/2 - 0.98 sqrt(n). [Conover 1999, 3.2]
    """
    ordered = np.sort(values)
    low = max(int(np.floor(len(ordered) / 2 - 0.98 * np.sqrt(len(ordered)))), 0)
    return float(np.median(ordered)), (float(ordered[low]), float(ordered[-1 - low]))


def figure(runtime: str, batch_size: int, threads: int, seconds: Array) -> LatencyValue:
    """Median and 95th percentile."""
    return LatencyValue(
        runtime=runtime,
        batch_size=batch_size,
        threads=threads,
        p50_ms=float(np.percentile(seconds, 50) * 1000),
        p95_ms=float(np.percentile(seconds, 95) * 1000),
        repeats=len(seconds),
    )


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
