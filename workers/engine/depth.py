"""Depth: residual blocks and layers that may be left out as a whole.

A residual block is all that lies between a tensor and an addition to that tensor. Without it the
addition gives the tensor itself. A layer that gives what it gets in the same shape can be left out
likewise. In the masked original their calls give back what they were given.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.ops.numpy import Add as AddOperation

from app.domain.errors import EngineRefusal
from app.domain.prune import FractionTarget, MacsTarget, ParametersTarget, Prune
from workers.engine import graph
from workers.engine.analysis import Analysis
from workers.engine.counting import macs_of
from workers.engine.criteria import WEIGHT_CRITERIA
from workers.engine.cut import DepthCut, LayerCut, Progress
from workers.engine.evidence import Evidence
from workers.engine.masks import removal_count, smallest
from workers.engine.overrides import wish
from workers.engine.weights import seeded

SAME = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
"""Layers that are tried one by one, where they stand in no block and keep the shape."""


@dataclass(frozen=True)
class Block:
    """What goes together: the calls in between, and the call whose output becomes its input."""

    name: str
    joint: Any
    """The node that gives `source` when the block is gone: the addition, or the layer itself."""
    source: Any
    """The tensor that is passed on instead."""
    nodes: tuple[Any, ...]
    """All calls that go, the joint included."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers and operations that go."""
        return tuple(dict.fromkeys(node.operation.name for node in self.nodes))


def blocks(model: Any) -> tuple[Block, ...]:
    """Blocks of a model's own graph, in model order; none of them overlap."""
    called: dict[int, int] = {}
    nodes = [node for node in graph.calls(model) if node.input_tensors]
    for node in nodes:
        called[id(node.operation)] = called.get(id(node.operation), 0) + 1
    readers = _readers(model, nodes)
    once = {id(node) for node in nodes if called[id(node.operation)] == 1}
    found: list[Block] = []
    taken: set[int] = set()
    for block in (*_residual(nodes, readers), *_single(nodes)):
        mine = {id(node) for node in block.nodes}
        if mine <= once and not mine & taken and _has_weights(block):
            taken |= mine
            found.append(block)
    order = {id(node): position for position, node in enumerate(nodes)}
    return tuple(sorted(found, key=lambda block: order[id(block.joint)]))


def _readers(model: Any, nodes: list[Any]) -> dict[int, list[Any]]:
    """The calls that read each tensor; None for what leaves the model."""
    found: dict[int, list[Any]] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            found.setdefault(id(tensor), []).append(node)
    for tensor in graph.graph_of(model).outputs:
        found.setdefault(id(tensor), []).append(None)
    return found


def _residual(nodes: list[Any], readers: Mapping[int, list[Any]]) -> Iterator[Block]:
    made_by = {id(tensor): node for node in nodes for tensor in node.output_tensors}
    for node in nodes:
        if not isinstance(node.operation, keras.layers.Add | AddOperation):
            continue
        tensors = graph.data_tensors(node)
        if len(tensors) != 2:
            continue
        for source, branch in (tensors, tensors[::-1]):
            region = _between(source, branch, node, made_by, readers)
            if region and tuple(source.shape) == tuple(node.output_tensors[0].shape):
                name = next(n.operation.name for n in region)
                yield Block(f"{name}…{node.operation.name}", node, source, (*region, node))
                break


def _between(
    source: Any,
    branch: Any,
    joint: Any,
    made_by: Mapping[int, Any],
    readers: Mapping[int, list[Any]],
) -> list[Any]:
    """The calls from `source` to `branch`, if nothing else enters or leaves them."""
    found: dict[int, Any] = {}
    waiting = [branch]
    while waiting:
        tensor = waiting.pop()
        if tensor is source:
            continue
        node = made_by.get(id(tensor))
        if node is None:
            return []
        if id(node) not in found:
            found[id(node)] = node
            waiting += graph.data_tensors(node)
    inside = {*found, id(joint)}
    for node in found.values():
        for tensor in node.output_tensors:
            if any(reader is None or id(reader) not in inside for reader in readers[id(tensor)]):
                return []
    return sorted(found.values(), key=list(made_by.values()).index)


def _single(nodes: list[Any]) -> Iterator[Block]:
    for node in nodes:
        before, after = node.input_tensors[0], node.output_tensors[0]
        if type(node.operation) in SAME and tuple(before.shape) == tuple(after.shape):
            yield Block(node.operation.name, node, before, (node,))


def _has_weights(block: Block) -> bool:
    return any(getattr(node.operation, "weights", ()) for node in block.nodes)


def choose_layers(
    analysis: Analysis,
    prune: Prune,
    share: float,
    seed: int,
    progress: Progress,
    evidence: Evidence | None = None,
) -> DepthCut:
    """Choose the blocks to leave out so that `share` of the target is reached.

    The least salient go first; a block's saliency is the mean of the criterion over its kernels'
    weights. With a budget, blocks go until it is met.

    Raises:
        EngineRefusal: there are no blocks, or the target cannot be met.
    """
    model = analysis.model
    found = [
        block for block in blocks(model) if not any(wish(name, prune).skip for name in block.layers)
    ]
    if not found:
        raise EngineRefusal(
            f"Model '{model.name}' has no layer or residual block that could be left out: one "
            "that adds to its own input, or gives what it gets in the same shape, is called once, "
            "and is not skipped by the spec. Use granularity channel."
        )
    keys = {id(variable): key for key, variable in graph.variable_keys(model).items()}
    seen = evidence or Evidence()
    kind = prune.criterion.kind
    saliency = np.array([_saliency(block, kind, seed, keys, seen) for block in found])
    order = np.argsort(saliency, kind="stable")
    target = prune.target
    if isinstance(target, FractionTarget):
        gone = max(
            0,
            removal_count(share * target.remove, progress.blocks)
            - (progress.blocks - len(blocks(model))),
        )
        chosen = smallest(saliency, min(gone, len(found)))
    else:
        chosen = _until(analysis, found, order, prune, share, progress)
    removed = [block for block, goes in zip(found, chosen, strict=True) if goes]
    return DepthCut(tuple(block.name for block in removed), _rows(model, removed), progress)


def _saliency(
    block: Block, criterion: str, seed: int, keys: Mapping[int, str], evidence: Evidence
) -> float:
    rank = WEIGHT_CRITERIA.get(criterion)
    if rank is None:
        raise EngineRefusal(
            f"criterion {criterion} ranks units: granularity layer takes one that ranks weights."
        )
    total = count = 0.0
    for node in block.nodes:
        for variable in getattr(node.operation, "weights", ()):
            if variable.name in graph.KERNELS and graph.is_float(variable):
                values = graph.values(variable).astype(np.float32)
                key = keys[id(variable)]
                ranked = rank(values, seeded(seed, key), evidence.of(key, values.shape))
                total += float(ranked.sum(dtype=np.float64))
                count += ranked.size
    return total / count if count else float("inf")


def _until(
    analysis: Analysis,
    found: list[Block],
    order: Any,
    prune: Prune,
    step: float,
    progress: Progress,
) -> Any:
    target = prune.target
    if not isinstance(target, MacsTarget | ParametersTarget):
        raise TypeError(f"a target of kind {target.kind if target else None} is searched for")
    macs = isinstance(target, MacsTarget)
    whole = progress.macs if macs else progress.parameters
    limit = (1.0 - step * (1.0 - target.keep)) * whole
    left = analysis.sizes.macs if macs else analysis.sizes.parameters
    chosen = np.zeros(len(found), dtype=np.bool_)
    for index in order:
        if left <= limit:
            break
        chosen[index] = True
        left -= _cost(analysis, found[index], macs)
    if left > limit:
        raise EngineRefusal(
            f"The target keeps at most {target.keep:.4g} of the "
            f"{'MACs' if macs else 'parameters'}, but without any block that can be left out "
            f"{left / max(whole, 1):.4g} remain. Ask for more to be kept, or use granularity "
            "channel."
        )
    return chosen


def _cost(analysis: Analysis, block: Block, macs: bool) -> int:
    names = set(block.layers)
    if not macs:
        return sum(
            graph.size_of(v) for n in block.nodes for v in getattr(n.operation, "weights", ())
        )
    kept = analysis.kept(analysis.keep_all())
    return sum(
        macs_of(work, kept) for work in analysis.walk.works if work.layer.split("/")[0] in names
    )


def _rows(model: Any, removed: list[Block]) -> tuple[LayerCut, ...]:
    gone = {name: block.name for block in removed for name in block.layers}
    return tuple(
        LayerCut(
            name=layer.name,
            class_name=type(layer).__name__,
            before=1,
            removed=int(layer.name in gone),
            asked=None,
            note=f"left out with block {gone[layer.name]}" if layer.name in gone else None,
        )
        for layer in model.layers
    )


def removed_blocks(model: Any, cut: DepthCut) -> list[Block]:
    """The blocks that a cut names.

    Raises:
        EngineRefusal: the cut was not made for this model.
    """
    known = {block.name: block for block in blocks(model)}
    if strange := set(cut.blocks) - set(known):
        raise EngineRefusal(f"The cut of {min(strange)} does not fit '{model.name}'.")
    return [known[name] for name in cut.blocks]


def without(model: Any, cut: DepthCut) -> Any:
    """A new model of the layers that stay, with their weights; the old one is never touched."""
    removed = removed_blocks(model, cut)
    gone = {id(node) for block in removed for node in block.nodes}
    joints = {id(block.joint): block for block in removed}
    inner = graph.graph_of(model)
    twins: dict[int, Any] = {}
    known: dict[int, Any] = {}
    for node in graph.calls(model):
        if not node.input_tensors:
            twin = _twin(node.operation, twins)
            known[id(node.output_tensors[0])] = twin.output
        elif id(node) in joints:
            known[id(node.output_tensors[0])] = known[id(joints[id(node)].source)]
        elif id(node) not in gone:
            args, kwargs = node.arguments.fill_in(known)
            kwargs = {name: value for name, value in kwargs.items() if name != "mask"}
            outputs = keras.tree.flatten(_twin(node.operation, twins)(*args, **kwargs))
            for tensor, value in zip(node.output_tensors, outputs, strict=True):
                known[id(tensor)] = value

    def twin_of(tensor: Any) -> Any:
        return known[id(tensor)]

    copy = keras.Model(
        keras.tree.map_structure(twin_of, inner._inputs_struct),
        keras.tree.map_structure(twin_of, inner._outputs_struct),
        name=model.name,
    )
    for layer in copy.layers:
        source = model.get_layer(layer.name)
        for old, new in zip(source.variables, layer.variables, strict=True):
            new.assign(old)
        layer.trainable = source.trainable
    return copy


def _twin(operation: Any, twins: dict[int, Any]) -> Any:
    if id(operation) not in twins:
        twins[id(operation)] = type(operation).from_config(operation.get_config())
    return twins[id(operation)]
