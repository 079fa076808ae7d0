"""Passes over small graphs: what they change, what they leave, and that outputs stay the same."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from workers.exports.onnx_layout import adapt

RANDOM = np.random.default_rng(0)


def model(nodes: list[Any], shape: tuple[int, ...], /, **constants: Any) -> Any:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def outputs(proto: Any, x: Any) -> Any:
    onnx.checker.check_model(proto)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def kinds(proto: Any) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def adapted(proto: Any, shape: tuple[int, ...]) -> list[str]:
    x = RANDOM.standard_normal(shape).astype(np.float32)
    before = outputs(proto, x)
    adapt(proto)
    np.testing.assert_allclose(outputs(proto, x), before, rtol=1e-6)
    return kinds(proto)


def normalised() -> Any:
    return model(
        [
            helper.make_node("Sub", ["x", "mean"], ["centred"], name="sub"),
            helper.make_node("Mul", ["factor", "centred"], ["scaled"], name="mul"),
            helper.make_node("Transpose", ["scaled"], ["y"], name="t", perm=[0, 3, 1, 2]),
        ],
        (2, 4, 5, 3),
        mean=np.arange(3),
        factor=np.arange(1, 4).reshape(1, 1, 1, 3),
    )


def test_a_transpose_goes_in_front_of_what_normalises_the_input() -> None:
    proto = normalised()
    assert adapted(proto, (2, 4, 5, 3)) == ["Transpose", "Sub", "Mul"]
    assert sorted(tuple(each.dims) for each in proto.graph.initializer) == [(1, 3, 1, 1)] * 2


def test_a_transpose_stays_behind_what_others_read_too() -> None:
    proto = normalised()
    proto.graph.node.append(helper.make_node("Relu", ["scaled"], ["z"], name="relu"))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 4))
    assert adapted(proto, (2, 4, 5, 3)) == ["Sub", "Mul", "Transpose", "Relu"]


def affine(channels: int, scale: tuple[int, ...], bias: tuple[int, ...]) -> Any:
    return model(
        [
            helper.make_node("Mul", ["x", "scale"], ["scaled"], name="mul"),
            helper.make_node("Add", ["scaled", "bias"], ["sum"], name="add"),
            helper.make_node("Relu", ["sum"], ["y"], name="relu"),
        ],
        (2, channels, 5, 6),
        scale=RANDOM.standard_normal(scale),
        bias=RANDOM.standard_normal(bias),
    )


def test_a_scale_and_a_bias_per_channel_become_one_normalisation() -> None:
    proto = affine(4, (1, 4, 1, 1), (1, 4, 1, 1))
    assert adapted(proto, (2, 4, 5, 6)) == ["BatchNormalization", "Relu"]
    assert len(proto.graph.initializer) == 4


@pytest.mark.parametrize(
    ("channels", "scale", "bias"),
    [
        (1, (1, 4, 1, 1), (1, 4, 1, 1)),  # One channel is spread to four.
        (4, (1, 4, 5, 1), (1, 4, 5, 1)),  # Per row, too.
        (4, (1, 4, 1, 1), (1, 1, 1, 1)),
        (4, (6,), (6,)),  # Along the last axis.
    ],
)
def test_other_factors_stay(channels: int, scale: tuple[int, ...], bias: tuple[int, ...]) -> None:
    assert adapted(affine(channels, scale, bias), (2, channels, 5, 6)) == ["Mul", "Add", "Relu"]


def hard_sigmoid(high: float = 6.0, factor: float = 1 / 6, low: float = 0.0) -> Any:
    return model(
        [
            helper.make_node("Add", ["x", "shift"], ["moved"], name="add"),
            helper.make_node("Clip", ["moved", "low", "high"], ["cut"], name="clip"),
            helper.make_node("Mul", ["cut", "factor"], ["gate"], name="mul"),
            helper.make_node("Mul", ["x", "gate"], ["y"], name="swish"),
        ],
        (2, 4, 5, 3),
        shift=np.array([3.0]),
        low=np.array(low),
        high=np.array(high),
        factor=np.array(factor),
    )


def test_a_hard_swish_has_one_operation_for_its_gate() -> None:
    assert adapted(hard_sigmoid(), (2, 4, 5, 3)) == ["HardSigmoid", "Mul"]


@pytest.mark.parametrize("other", [{"high": 5.0}, {"factor": 0.5}, {"low": -1.0}])
def test_other_gates_stay(other: dict[str, float]) -> None:
    kept = ["Add", "Clip", "Mul", "Mul"]
    assert adapted(hard_sigmoid(**other), (2, 4, 5, 3)) == kept


# --- shapes that are known -----------------------------------------------------------------------
def flattened(lengths: tuple[int, ...], *, start: int = 0, end: int = 1) -> Any:
    """x, (samples, 3, 4, 5), moved and reshaped as tf2onnx does it."""
    proto = model(
        [
            helper.make_node("Transpose", ["x"], ["moved"], perm=[0, 2, 3, 1]),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "order"], ["ordered"]),
            helper.make_node("Cast", ["ordered"], ["small"], to=TensorProto.INT32),
            helper.make_node("Slice", ["small", "start", "end", "zero"], ["samples"]),
            helper.make_node("Concat", ["samples", "lengths"], ["joined"], axis=0),
            helper.make_node("Cast", ["joined"], ["new"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["moved", "new"], ["y"]),
        ],
        (2, 3, 4, 5),
    )
    for name, value, dtype in (
        ("order", [0, 2, 3, 1], np.int64),
        ("start", [start], np.int64),
        ("end", [end], np.int64),
        ("zero", [0], np.int64),
        ("lengths", lengths, np.int32),
    ):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
    axes = [None] * (end - start + len(lengths))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, axes))
    return proto


@pytest.mark.parametrize("lengths", [(60,), (20, 3), (4, 5, 3)])
def test_a_shape_that_is_known_is_a_constant(lengths: tuple[int, ...]) -> None:
    proto = flattened(lengths)
    assert adapted(proto, (2, 3, 4, 5)) == ["Transpose", "Reshape"]
    assert [each.name for each in proto.graph.initializer] == ["y/shape"]
    # Another number of samples than the graph was made with.
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "samples"
    assert outputs(proto, np.zeros((7, 3, 4, 5), np.float32)).shape == (7, *lengths)


@pytest.mark.parametrize(
    ("lengths", "start", "end"), [((-1,), 0, 1), ((15,), 0, 2), ((0, 5, 3), 0, 1)]
)
def test_shapes_of_more_that_is_not_known_stay(
    lengths: tuple[int, ...], start: int, end: int
) -> None:
    proto = flattened(lengths, start=start, end=end)
    assert adapted(proto, (2, 3, 4, 5)).count("Shape") == 1
