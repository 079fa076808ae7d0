"""Recurrent layers: a unit reads the state of all units, so its row of the recurrent kernel goes
with its columns. Wrappers around layers are here as well.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from workers.engine.channels import Call, Opaque, Rule, Work, apply_rule
from workers.engine.ids import Axis, Tensor, bare, joined, tiled
from workers.engine.rules.activations import is_elementwise

layers = keras.layers

GATES: Mapping[type, int] = MappingProxyType(
    {layers.SimpleRNNCell: 1, layers.GRUCell: 3, layers.LSTMCell: 4}
)
STATES: Mapping[type, int] = MappingProxyType(
    {layers.SimpleRNNCell: 1, layers.GRUCell: 1, layers.LSTMCell: 2}
)


def recurrent(call: Call) -> tuple[Tensor, ...]:
    """SimpleRNN, GRU, LSTM, and RNN over cells or a stack of them."""
    x, *states = call.inputs
    return tuple(_recurrent(call, call.layer, call.key, x, states))


def _recurrent(
    call: Call, layer: Any, key: str, x: Tensor, given: Sequence[Tensor]
) -> list[Tensor]:
    """Outputs of one recurrent layer: the sequence or its end, then states if they are returned."""
    call.walk.freeze(x[1], f"{key} steps over it")
    stacked = isinstance(layer.cell, layers.StackedRNNCells)
    cells = list(layer.cell.cells) if stacked else [layer.cell]
    for cell in cells:
        if type(cell) not in GATES:
            raise Opaque(f"{key} steps through {type(cell).__name__}, which is not understood")
    number = sum(STATES[type(cell)] for cell in cells)
    if given and len(given) != number:
        raise Opaque(f"{key} is called with {len(given)} states, and has {number}")
    axis, states = x[-1], []
    for cell in cells:
        name = f"{key}/{cell.name}" if len(cells) > 1 else key
        owner = layer if type(layer) is not layers.RNN else cell
        axis = _cell(call, cell, owner, name, axis, x[1])
        states += [axis] * STATES[type(cell)]
    _initial(call, layer, key, states, given)
    out: list[Tensor] = [(x[0], x[1], axis) if layer.return_sequences else (x[0], axis)]
    if layer.return_state:
        out += [(x[0], state) for state in states]
    return out


def _cell(call: Call, cell: Any, owner: Any, key: str, read: Axis, time: Axis) -> Axis:
    """Kernel (inputs, gates·units), recurrent kernel (units, gates·units), bias (gates·units,)."""
    weights = {variable.name: variable for variable in cell.weights}
    if strange := set(weights) - {"kernel", "recurrent_kernel", "bias"}:
        raise Opaque(f"{key} has further weights ({', '.join(sorted(strange))})")
    made = call.walk.make(key, owner, int(cell.units), key=key)
    columns = tiled(made, GATES[type(cell)])
    call.bind(weights["kernel"], 0, read, reads=True)
    call.bind(weights["recurrent_kernel"], 0, made, reads=True)
    for name in ("kernel", "recurrent_kernel"):
        call.bind(weights[name], 1, columns)
        call.walk.slot(key, weights[name], 1, columns)
        call.walk.kernel_work(key, weights[name], (time,))
    if "bias" in weights:
        call.bind(weights["bias"], -1, columns)
    call.walk.edit(owner, "units", (made,), lambda sizes: sizes[0])
    _elementwise(call, cell, made)
    return made


def _elementwise(call: Call, cell: Any, made: Axis) -> None:
    for activation in (cell.activation, getattr(cell, "recurrent_activation", None)):
        if not is_elementwise(activation):
            call.walk.freeze(made, f"{call.key} has an activation that mixes its units")


def _initial(
    call: Call, layer: Any, key: str, states: Sequence[Axis], given: Sequence[Tensor]
) -> None:
    """States that come in belong to the same units, and so do those that are remembered."""
    for state, tensor in zip(states, given, strict=False):
        if state.named or tensor[-1].named:
            call.walk.unite(state, tensor[-1], key)
    if layer.stateful:
        for variable, state in zip(keras.tree.flatten(layer.states), states, strict=True):
            call.bind(variable, -1, state)


def bidirectional(call: Call) -> tuple[Tensor, ...]:
    """One layer forward, one backward, and their outputs merged."""
    layer = call.layer
    x, *given = call.inputs
    half = len(given) // 2
    pair = (layer.forward_layer, given[:half]), (layer.backward_layer, given[half:])
    for inner, _ in pair:
        if not isinstance(inner, layers.RNN) or type(inner) not in RULES:
            raise Opaque(f"{call.key} wraps {type(inner).__name__}, which is not understood")
    forward, backward = (
        _recurrent(call, inner, f"{call.key}/{inner.name}", x, states) for inner, states in pair
    )
    states = [*forward[1:], *backward[1:]]
    one, other = forward[0], backward[0]
    # Keras derives the output's shape from the forward layer alone: both keep as many units.
    merged = call.walk.unite(one[-1], other[-1], call.key)
    if layer.merge_mode is None:
        return (one, other, *states)
    if layer.merge_mode == "concat":
        merged = joined((one[-1], other[-1]))
    return ((*one[:-1], merged), *states)


def time_distributed(call: Call) -> Tensor:
    """The same layer at every step of axis 1."""
    x, shape = call.input, call.shape
    call.walk.freeze(x[1], f"{call.key} steps over it")
    before = len(call.walk.works)
    inner = call.inner(
        call.layer.layer, call.layer.layer.name, [(x[0], *x[2:])], [(shape[0], *shape[2:])]
    )
    (result,) = apply_rule(inner, _rules())
    for number, work in enumerate(call.walk.works[before:], start=before):
        steps = 1 if x[1].size is None else x[1].size
        exact = work.exact and x[1].size is not None
        call.walk.works[number] = Work(work.layer, work.constant * steps, work.axes, exact)
    return (result[0], Axis(shape[1]), *result[1:])


def convolutional(call: Call) -> tuple[Tensor, ...]:
    """ConvLSTM: kernel (*window, inputs, 4·filters), recurrent kernel (*window, filters, …)."""
    layer, cell = call.layer, call.layer.cell
    if len(call.inputs) != 1 or layer.stateful:
        raise Opaque(f"{call.key} is handed a state")
    x = call.input
    number = 2 if cell.data_format == "channels_first" else len(x) - 1
    for position, axis in enumerate(x):
        if position != number:
            call.walk.freeze(axis, f"its units are positions, not channels, to {call.key}")
    weights = {variable.name: variable for variable in cell.weights}
    made = call.walk.make(call.key, layer, int(cell.filters))
    columns = tiled(made, 4)
    call.bind(weights["kernel"], -2, x[number], reads=True)
    call.bind(weights["recurrent_kernel"], -2, made, reads=True)
    space = _space(call.output_shapes[0], number, layer.return_sequences)
    for name in ("kernel", "recurrent_kernel"):
        call.bind(weights[name], -1, columns)
        call.walk.slot(call.key, weights[name], -1, columns)
        call.walk.kernel_work(call.key, weights[name], (x[1], *space))
    if "bias" in weights:
        call.bind(weights["bias"], 0, columns)
    call.edit("filters", (made,))
    _elementwise(call, cell, made)
    out = []
    for position, shape in enumerate(call.output_shapes):
        steps = position == 0 and layer.return_sequences
        axes = list(bare(shape))
        axes[number if steps else number - 1] = made
        out.append(call.fitted(axes, position))
    return tuple(out)


def _space(shape: Any, number: int, steps: bool) -> list[Axis]:
    channel = number if steps else number - 1
    first = 2 if steps else 1
    return [Axis(size) for i, size in enumerate(shape) if i >= first and i != channel]


def _rules() -> Mapping[type, Rule]:
    from workers.engine import rules

    return rules.RULES


def spectral_normalisation(call: Call) -> Tensor:
    """A wrapper whose own vector follows the last axis of the kernel inside."""
    inner = call.inner(call.layer.layer, call.layer.layer.name, call.inputs, call.output_shapes)
    (result,) = apply_rule(inner, _rules())
    kernel = call.layer.kernel
    binding = call.walk.bindings.get((id(kernel), len(kernel.shape) - 1))
    own = next(v for v in call.layer.weights if v.name == "vector_u")
    if binding is not None:
        call.bind(own, 1, binding.axis)
    return result


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **dict.fromkeys((layers.SimpleRNN, layers.GRU, layers.LSTM, layers.RNN), recurrent),
        **dict.fromkeys((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), convolutional),
        layers.Bidirectional: bidirectional,
        layers.TimeDistributed: time_distributed,
        layers.SpectralNormalization: spectral_normalisation,
    }
)
