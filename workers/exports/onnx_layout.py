"""What ONNX Runtime needs to see of a graph from tf2onnx, to run it in its own fast layout.

All passes leave what the graph computes as it is.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from workers.exports.onnx_shapes import settle_reshapes

ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div"})


def adapt(proto: Any) -> None:
    """All passes, in place; constants that nothing reads any more are dropped.

    Args:
        proto: an ONNX ModelProto.
    """
    graph = proto.graph
    changed = raise_transposes(graph) + join_affines(proto) + join_hard_sigmoids(graph)
    changed += settle_reshapes(graph)
    read = {name for node in graph.node for name in node.input}
    read |= {output.name for output in graph.output}
    for unused in [each for each in graph.initializer if changed and each.name not in read]:
        graph.initializer.remove(unused)


class _Links:
    """Who makes and who reads each tensor."""

    def __init__(self, graph: Any) -> None:
        self.constants = {each.name: each for each in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._kept = {output.name for output in graph.output}

    def maker(self, name: str, kinds: frozenset[str]) -> Any:
        """The node of one of these kinds that makes a tensor for one reader only, or None."""
        node = self._makers.get(name)
        alone = self._readers[name] == 1 and name not in self._kept
        return node if node is not None and node.op_type in kinds and alone else None

    def constant(self, node: Any) -> tuple[int, NDArray[Any]] | None:
        """Which of a node's two inputs is constant, and its values; None unless exactly one is."""
        fixed = [number for number, name in enumerate(node.input) if name in self.constants]
        if len(fixed) != 1:
            return None
        return fixed[0], numpy_helper.to_array(self.constants[node.input[fixed[0]]])


def raise_transposes(graph: Any) -> int:
    """Swap each `op(x, constant)` that only a transpose reads with that transpose, in place.

    An image model of Keras normalises its input in NHWC, where a factor per channel is broadcast
    along a last axis of three: ONNX Runtime then handles three values at a time. In NCHW the same
    factor holds for a whole plane. (Seen with ONNX Runtime 1.32: 1.1 ms of EfficientNetB0's 13.)

    Returns:
        How many were swapped.
    """
    swapped = 0
    while _raise_one(graph):
        swapped += 1
    return swapped


def _raise_one(graph: Any) -> bool:
    links = _Links(graph)
    for transpose in graph.node:
        if transpose.op_type != "Transpose":
            continue
        maker = links.maker(transpose.input[0], ELEMENTWISE)
        found = links.constant(maker) if maker is not None else None
        axes = [int(axis) for axis in transpose.attribute[0].ints]
        if found is not None and found[1].ndim <= len(axes):
            _swap(graph, maker, transpose, *found, axes)
            return True
    return False


def _swap(graph: Any, maker: Any, transpose: Any, fixed: int, values: Any, axes: list[int]) -> None:
    wide = values.reshape([1] * (len(axes) - values.ndim) + list(values.shape))
    name = f"{transpose.output[0]}/{maker.name}/constant"
    graph.initializer.append(numpy_helper.from_array(np.transpose(wide, axes).copy(), name))
    between, inputs = transpose.input[0], list(maker.input)
    moved = [inputs[1 - fixed]]
    first = helper.make_node("Transpose", moved, [between], name=transpose.name, perm=axes)
    inputs[1 - fixed], inputs[fixed] = between, name
    second = helper.make_node(maker.op_type, inputs, list(transpose.output), name=maker.name)
    _replace(graph, [maker, transpose], [first, second])


def join_affines(proto: Any) -> int:
    """Make `x * scale + bias`, per channel of NCHW images, a BatchNormalization, in place.

    TensorFlow folds a batch normalisation that no convolution can take in (DenseNet, ResNetV2) to
    a product and a sum, for which ONNX Runtime leaves its blocked layout. As one normalisation it
    runs within, and takes the ReLU behind it along. (Seen with ONNX Runtime 1.32: pruned
    DenseNet121 runs in 0.89 of the time.)

    Returns:
        How many were joined.
    """
    links = _Links(proto.graph)
    found = []
    for add in proto.graph.node:
        bias = links.constant(add) if add.op_type == "Add" else None
        mul = links.maker(add.input[1 - bias[0]], frozenset({"Mul"})) if bias else None
        scale = links.constant(mul) if mul is not None else None
        if mul is None or bias is None or scale is None:
            continue
        if scale[1].shape == bias[1].shape and _per_channel(scale[1]):
            found.append((mul, add, mul.input[1 - scale[0]], scale[1].ravel(), bias[1].ravel()))
    channels = _channels(proto) if found else {}
    wide = [each for each in found if channels.get(each[2]) == each[3].size]
    for each in wide:
        _join(proto.graph, *each)
    return len(wide)


def join_hard_sigmoids(graph: Any) -> int:
    """Make `relu6(x + 3) / 6`, as Keras writes it, a HardSigmoid, in place.

    One operation instead of three, which ONNX Runtime need not leave its blocked layout for. (Seen
    with ONNX Runtime 1.32: MobileNetV3Small runs in 0.80 of the time, pruned in 0.74.)

    Returns:
        How many were joined.
    """
    links = _Links(graph)
    found = []
    for mul in graph.node:
        factor = _number(links.constant(mul)) if mul.op_type == "Mul" else None
        clip: Any = links.maker(mul.input[1 - factor[0]], frozenset({"Clip"})) if factor else None
        add: Any = links.maker(clip.input[0], frozenset({"Add"})) if clip is not None else None
        shift = _number(links.constant(add)) if add is not None else None
        if factor is None or shift is None or not _zero_to(links, clip, 1.0 / factor[1]):
            continue
        node = helper.make_node(
            "HardSigmoid",
            [add.input[1 - shift[0]]],
            list(mul.output),
            name=mul.name,
            alpha=factor[1],
            beta=shift[1] * factor[1],
        )
        found.append(([add, clip, mul], node))
    for old, node in found:
        _replace(graph, old, [node])
    return len(found)


def _number(constant: tuple[int, NDArray[Any]] | None) -> tuple[int, float] | None:
    """A float32 constant of one value: which input it is, and the value; None where it is 0."""
    if constant is None or constant[1].size != 1 or constant[1].dtype != np.float32:
        return None
    value = float(constant[1].reshape(()))
    return (constant[0], value) if value else None


def _zero_to(links: _Links, clip: Any, high: float) -> bool:
    """Whether a Clip has 0 and `high` as constant bounds."""
    bounds = [links.constants[name] for name in clip.input[1:] if name in links.constants]
    if len(bounds) != 2:
        return False
    low, top = (float(numpy_helper.to_array(bound).reshape(())) for bound in bounds)
    return low == 0.0 and abs(top - high) <= 1e-6 * abs(high)


def _per_channel(values: NDArray[Any]) -> bool:
    return values.ndim == 4 and values.shape[1] == values.size and values.dtype == np.float32


def _channels(proto: Any) -> dict[str, int]:
    """Sizes of axis 1 of the tensors with four axes, as far as ONNX can tell."""
    graph = shape_inference.infer_shapes(proto).graph
    shapes = {
        value.name: value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.input)
    }
    return {name: int(dims[1].dim_value) for name, dims in shapes.items() if len(dims) == 4}


def _join(graph: Any, mul: Any, add: Any, x: str, scale: Any, bias: Any) -> None:
    count = scale.size
    values = {
        "scale": scale,
        "bias": bias,
        "mean": np.zeros(count, np.float32),
        "variance": np.ones(count, np.float32),
    }
    names = [f"{add.name}/{role}" for role in values]
    for name, value in zip(names, values.values(), strict=True):
        graph.initializer.append(numpy_helper.from_array(value.copy(), name))
    node = helper.make_node(
        "BatchNormalization",
        [x, *names],
        list(add.output),
        name=add.name,
        epsilon=0.0,
    )
    _replace(graph, [mul, add], [node])


def _replace(graph: Any, old: list[Any], new: list[Any]) -> None:
    """Nodes by others, at the place of the last; what is known of tensors in between is dropped."""
    place = list(graph.node).index(old[-1])
    for number, node in enumerate(new):
        graph.node.insert(place + number, node)
    for node in old:
        graph.node.remove(node)
    stale = set(old[0].output)
    for each in [each for each in graph.value_info if each.name in stale]:
        graph.value_info.remove(each)
