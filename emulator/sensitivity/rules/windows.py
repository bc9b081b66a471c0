"""The geometry that convolution and pooling share: windows over the spatial axes."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.sensitivity.rules.registry import Arc
from emulator.sensitivity.rules.tape import Tape


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """One entry a spatial axis, in elements; window o of an axis reads o * stride + t * dilation - begin."""

    size_in: tuple[int, ...]
    size_out: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def axes(self) -> int:
        return len(self.kernel)

    @property
    def pads(self) -> list[int]:
        return [*self.begin, *self.end]

    @property
    def reach(self) -> tuple[int, ...]:
        """Distance from the first to the last element of a window."""
        return tuple(d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True))

    @property
    def unread(self) -> tuple[int, ...]:
        """Elements at the end of the padded input that no window reaches."""
        spans = zip(self.size_in, self.begin, self.end, self.strides, self.size_out, self.reach, strict=True)
        return tuple(size + b + e - (s * (out - 1) + r + 1) for size, b, e, s, out, r in spans)


def windows(tape: Tape, arc: Arc, kernel: list[int]) -> Windows:
    """Read the window attributes of a Conv or pool node, auto_pad resolved to explicit pads."""
    attributes, axes = arc.node.attributes, len(kernel)
    size_in, size_out = tape.fixed(arc.input(0), start=2), tape.fixed(arc.y, start=2)
    strides = list(attributes.get_ints("strides") or [1] * axes)
    dilations = list(attributes.get_ints("dilations") or [1] * axes)
    pads = list(attributes.get_ints("pads") or [0] * 2 * axes)
    auto_pad = attributes.get_string("auto_pad", "NOTSET")
    if auto_pad == "VALID":
        pads = [0] * 2 * axes
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        spans = zip(size_in, size_out, kernel, strides, dilations, strict=True)
        total = [max(0, (out - 1) * s + d * (k - 1) + 1 - size) for size, out, k, s, d in spans]
        begin = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        pads = begin + [t - b for t, b in zip(total, begin, strict=True)]
    return Windows(
        size_in=tuple(size_in),
        size_out=tuple(size_out),
        kernel=tuple(kernel),
        strides=tuple(strides),
        dilations=tuple(dilations),
        begin=tuple(pads[:axes]),
        end=tuple(pads[axes:]),
    )
