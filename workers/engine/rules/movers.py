"""Movers: layers that only move, repeat or pool values. What they do to values is done to ids."""

from collections.abc import Mapping
from types import MappingProxyType

import keras
import numpy as np

from workers.engine.channels import Call, Opaque, Rule
from workers.engine.ids import Ids, compact, varying_axes

layers = keras.layers


def same(call: Call) -> Ids:
    """Every value keeps its place (dropout, noise)."""
    if set((getattr(call.layer, "noise_shape", None) or ())[1:]) - {None, 1}:
        raise Opaque(f"{call.layer.name} names the shape of its noise")
    return call.ids


def spatial(call: Call) -> Ids:
    """Positions are pooled, padded, cropped or repeated; channels keep theirs."""
    return call.spread(call.line())


def pooled(call: Call) -> Ids:
    """All positions become one, with or without their axes."""
    first = getattr(call.layer, "data_format", None) == "channels_first"
    return call.spread(call.line(), 0 if first else -1)


def last_axis(call: Call) -> Ids:
    """Positions change along the first axis; the last one holds the channels (1D layers)."""
    return call.spread(call.line(-1), -1)


def flatten(call: Call) -> Ids:
    """Row by row into one axis; channels_first is transposed to channels_last before."""
    if None in call.input_shapes[0]:
        raise Opaque(f"{call.layer.name} flattens an axis of unknown length")
    ids = call.ids
    if call.channel_axis == 0 and ids.ndim > 1:
        ids = np.moveaxis(ids, 0, -1)
    return ids.reshape(-1)


def reshape(call: Call) -> Ids:
    """Row by row into the target shape, which is derived anew from what remains."""
    before, after = call.input_shapes[0], call.output_shapes[0]
    ids = call.ids
    if None in before or None in after:
        same_last = bool(before and after) and before[-1] == after[-1] is not None
        if not same_last or set(varying_axes(ids)) - {ids.ndim - 1}:
            raise Opaque(f"{call.layer.name} reshapes an axis of unknown length")
        moved = call.spread(call.line(-1), -1)
    else:
        moved = ids.reshape(call.shape)

    def target(shape: tuple[int, ...]) -> list[int]:
        return [-1 if known is None else size for known, size in zip(after, shape, strict=True)]

    call.walk.edit(call.layer, "target_shape", moved, target)
    return moved


def permute(call: Call) -> Ids:
    """Axes change places."""
    return np.transpose(call.ids, [axis - 1 for axis in call.layer.dims])


def repeat_vector(call: Call) -> Ids:
    """(channels,) becomes (n, channels)."""
    return np.broadcast_to(call.ids, call.shape)


def concatenate(call: Call) -> Ids:
    """One after the other along an axis."""
    axis = call.axis(call.layer.axis, call.inputs[0])
    if call.output_shapes[0][axis] is None:
        united = call.inputs[0]
        for other in call.inputs[1:]:
            call.walk.names.unite(united, other)
        return np.broadcast_to(united, call.shape)
    parts = []
    for ids in call.inputs:
        shape = [*call.shape]
        shape[axis] = ids.shape[axis]
        small = compact(ids)
        if any(have not in (1, want) for have, want in zip(small.shape, shape, strict=True)):
            raise Opaque(f"{call.layer.name} joins axes of unknown length")
        parts.append(np.broadcast_to(small, shape))
    used = {axis}.union(*(varying_axes(ids) for ids in parts))
    cut = tuple(slice(None) if a in used else slice(0, 1) for a in range(len(call.shape)))
    joined = np.concatenate([ids[cut] for ids in parts], axis)
    return np.broadcast_to(joined, call.shape)


def _each(rule: Rule, *kinds: type) -> dict[type, Rule]:
    return dict.fromkeys(kinds, rule)


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **_each(
            same,
            layers.Dropout,
            layers.AlphaDropout,
            layers.SpatialDropout1D,
            layers.SpatialDropout2D,
            layers.SpatialDropout3D,
            layers.GaussianDropout,
            layers.GaussianNoise,
            layers.ActivityRegularization,
            layers.Identity,
        ),
        **_each(
            spatial,
            layers.MaxPooling1D,
            layers.MaxPooling2D,
            layers.MaxPooling3D,
            layers.AveragePooling1D,
            layers.AveragePooling2D,
            layers.AveragePooling3D,
            layers.ZeroPadding2D,
            layers.ZeroPadding3D,
            layers.Cropping2D,
            layers.Cropping3D,
            layers.UpSampling2D,
            layers.UpSampling3D,
        ),
        **_each(last_axis, layers.Cropping1D, layers.UpSampling1D),
        layers.ZeroPadding1D: spatial,
        **_each(
            pooled,
            layers.GlobalMaxPooling1D,
            layers.GlobalMaxPooling2D,
            layers.GlobalMaxPooling3D,
            layers.GlobalAveragePooling1D,
            layers.GlobalAveragePooling2D,
            layers.GlobalAveragePooling3D,
        ),
        layers.Flatten: flatten,
        layers.Reshape: reshape,
        layers.Permute: permute,
        layers.RepeatVector: repeat_vector,
        layers.Concatenate: concatenate,
    }
)
