"""Constants that differ from channel to channel, as in bounds a channel: where the channels are, and all codes of each
channel at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.graph.builder import HostOnly

Array = npt.NDArray[Any]


def channel_axis(shape: tuple[int, ...], constants: Mapping[str, Array]) -> int | None:
    """The axis of a tensor of this shape along which constants differ; None where each is one number.

    It is axis 1, the channels of a convolution, or the last one, the columns of a product: elsewhere channels are not
    stored last. Raises HostOnly for anything else.
    """
    axes = {axis for constant in constants.values() for axis in _wide(shape, constant)}
    if not axes:
        return None
    if len(axes) > 1 or not axes <= {1, len(shape) - 1} or 0 in axes:
        raise HostOnly("its constants differ from element to element, not from channel to channel")
    return axes.pop()


def _wide(shape: tuple[int, ...], constant: Array) -> set[int]:
    """The axes of the tensor along which a constant has more than one value; beyond its rank they are negative."""
    behind = len(shape) - constant.ndim
    return {behind + axis for axis, size in enumerate(constant.shape) if size > 1}


def channel_codes(shape: tuple[int, ...], axis: int) -> npt.NDArray[np.int16]:
    """Every stored value of every channel: (256, 1, .., channels, .., 1), the values along axis 0."""
    wide = [256, *(size if place == axis else 1 for place, size in enumerate(shape) if place > 0)]
    codes = np.arange(-128, 128, dtype=np.int16).reshape(256, *[1] * (len(shape) - 1))
    return np.ascontiguousarray(np.broadcast_to(codes, wide))


def by_channel(values: Array, axis: int) -> Array:
    """(channels, 256) of what became of `channel_codes`."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], 256)
