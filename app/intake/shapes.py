"""Shapes of a graph's tensors, inferred without running it."""

from app.intake.bounds import check_tensor
from app.intake.config import (
    MODEL_CLASSES,
    Config,
    Graph,
    Layer,
    Shape,
    TensorRef,
    input_layers,
    input_shape,
    parse_graph,
)
from app.intake.shape_ops import infer_operation
from app.intake.shape_rules import Shapes, infer_class

PASS_LIMIT = 100
"""Layers are listed with inputs first, so one pass or two are enough for sound files."""

Known = dict[tuple[str, int], Shapes]
"""Output shapes by layer and call."""


def output_shapes(graph: Graph) -> tuple[Shape | None, ...]:
    """Shapes of the model's outputs, batch axis first; `None` where one cannot be told.

    Raises:
        InvalidModel: a tensor on the way there is too large.
    """
    inputs = tuple(input_shape(layer) for layer in input_layers(graph))
    return tuple(_Walk().outputs(graph, inputs))


def layer_inputs(graph: Graph) -> dict[str, Shapes]:
    """The input shapes of every layer's first call.

    Raises:
        InvalidModel: a tensor of the graph is too large.
    """
    inputs = tuple(input_shape(layer) for layer in input_layers(graph))
    found: dict[str, Shapes] = {}
    _Walk().known(graph, inputs, found)
    return found


class _Walk:
    """One walk; a nested model is looked into once for each shape of input.

    Without that memory, models nested in one another and each called twice would take a time
    that doubles with every level.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[int, tuple[Shape | None, ...]], Shapes] = {}
        self._parsed: dict[int, Graph] = {}

    def outputs(self, graph: Graph, inputs: tuple[Shape | None, ...]) -> Shapes:
        """Shapes of a graph's outputs, given those of its inputs."""
        key = (id(graph), inputs)
        if key not in self._memory:
            known = self.known(graph, inputs, {})
            if graph.sequential:
                last = graph.layers[-1].name if graph.layers else ""
                self._memory[key] = known.get((last, 0), [None])[:1]
            else:
                self._memory[key] = [_look_up(known, ref) for ref in graph.outputs]
        return self._memory[key]

    def known(
        self, graph: Graph, inputs: tuple[Shape | None, ...], seen: dict[str, Shapes]
    ) -> Known:
        """Shapes of all tensors of a graph; `seen` receives what each layer is first given."""
        if graph.sequential:
            return self._in_sequence(graph, inputs, seen)
        known: Known = {}
        names = [ref.layer for ref in graph.inputs]
        for layer in graph.layers:
            if layer.class_name == "InputLayer":
                at = names.index(layer.name) if layer.name in names else len(inputs)
                known[(layer.name, 0)] = [inputs[at] if at < len(inputs) else input_shape(layer)]
                check_tensor(layer.name, known[(layer.name, 0)][0])
        pending = [(layer, index) for layer in graph.layers for index in range(len(layer.calls))]
        for _ in range(PASS_LIMIT):
            waiting: list[tuple[Layer, int]] = []
            for layer, index in pending:
                refs = layer.calls[index]
                if any((ref.layer, ref.node) not in known for ref in refs):
                    waiting.append((layer, index))
                    continue
                found = [_look_up(known, ref) for ref in refs]
                seen.setdefault(layer.name, found)
                known[(layer.name, index)] = self._infer(layer, found, index)
            if len(waiting) in (0, len(pending)):
                break
            pending = waiting
        return known

    def _in_sequence(
        self, graph: Graph, inputs: tuple[Shape | None, ...], seen: dict[str, Shapes]
    ) -> Known:
        known: Known = {}
        current: Shapes = list(inputs[:1]) or [None]
        for layer in graph.layers:
            check_tensor(layer.name, current[0])
            if layer.class_name != "InputLayer":
                seen[layer.name] = current
                current = self._infer(layer, current)[:1]
            known[(layer.name, 0)] = current
        return known

    def _infer(self, layer: Layer, inputs: Shapes, call: int = 0) -> Shapes:
        shapes = self._inferred(layer, inputs, call)
        for shape in shapes:
            check_tensor(layer.name, shape)
        return shapes

    def _inferred(self, layer: Layer, inputs: Shapes, call: int) -> Shapes:
        if layer.inner is not None:
            return self.outputs(layer.inner, tuple(inputs))
        if layer.is_operation:
            return infer_operation(layer.class_name, layer.config, _arguments(layer, call), inputs)
        if layer.class_name == "TimeDistributed":
            return [self._time_distributed(layer.config, inputs[0] if inputs else None)]
        if layer.class_name == "ReversibleEmbedding":
            keywords = _arguments(layer, call).get("kwargs")
            reverse = isinstance(keywords, dict) and bool(keywords.get("reverse"))
            return infer_class(layer.class_name, {**layer.config, "reverse": reverse}, inputs)
        return infer_class(layer.class_name, layer.config, inputs)

    def _time_distributed(self, config: Config, shape: Shape | None) -> Shape | None:
        entry = config.get("layer")
        if shape is None or len(shape) < 2 or not isinstance(entry, dict):
            return None
        each = (shape[0], *shape[2:])
        if entry.get("class_name") in MODEL_CLASSES:
            inner = self._parsed.setdefault(id(entry), parse_graph(entry))
            result = self.outputs(inner, (each,))[0]
        elif entry.get("class_name") == "TimeDistributed":
            result = self._time_distributed(entry.get("config", {}), each)
        else:
            result = infer_class(str(entry.get("class_name")), entry.get("config", {}), [each])[0]
        return None if result is None else (result[0], shape[1], *result[1:])


def _arguments(layer: Layer, call: int) -> Config:
    """The serialised arguments of one call; empty in a Sequential, which records none."""
    nodes = layer.entry.get("inbound_nodes")
    node = nodes[call] if isinstance(nodes, list) and call < len(nodes) else None
    return node if isinstance(node, dict) else {}


def _look_up(known: Known, ref: TensorRef) -> Shape | None:
    shapes = known.get((ref.layer, ref.node))
    if shapes is None:
        # Where a nested Functional's output is a model output, Keras counts one call more.
        shapes = known.get((ref.layer, ref.node - 1), [])
    inferred = shapes[ref.tensor] if 0 <= ref.tensor < len(shapes) else None
    return inferred if inferred is not None else ref.shape
