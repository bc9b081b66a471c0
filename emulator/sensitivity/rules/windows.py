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
    size_in, size_out = tape.fixed(arc.input(0), start=2), tape.fixed(arc.y, start=2)
    strides, dilations, pads = _attributes(arc, kernel)
    auto_pad = arc.node.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad.startswith("SAME"):
        spans = zip(size_in, size_out, kernel, strides, dilations, strict=True)
        total = [max(0, (out - 1) * s + d * (k - 1) + 1 - size) for size, out, k, s, d in spans]
        pads = _halves(total, more_at_end=auto_pad == "SAME_UPPER")
    return _windows(size_in, size_out, kernel, strides, dilations, pads)


def transposed_windows(tape: Tape, arc: Arc, kernel: list[int]) -> Windows:
    """The windows of the convolution a ConvTranspose is the transpose of: over its output, one an input element."""
    attributes = arc.node.attributes
    size_in, size_out = tape.fixed(arc.y, start=2), tape.fixed(arc.input(0), start=2)
    strides, dilations, pads = _attributes(arc, kernel)
    auto_pad = attributes.get_string("auto_pad", "NOTSET")
    if auto_pad.startswith("SAME") or attributes.get_ints("output_shape"):
        extra = list(attributes.get_ints("output_padding") or [0] * len(kernel))
        spans = zip(size_in, size_out, kernel, strides, dilations, extra, strict=True)
        total = [(out - 1) * s + more + d * (k - 1) + 1 - size for size, out, k, s, d, more in spans]
        if min(total) < 0:
            raise arc.refuse(f"its output is larger than it can fill, by {total}", "use output_padding")
        pads = _halves(total, more_at_end=auto_pad == "SAME_UPPER")
    return _windows(size_in, size_out, kernel, strides, dilations, pads)


def _attributes(arc: Arc, kernel: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations, explicit pads."""
    attributes, axes = arc.node.attributes, len(kernel)
    explicit = attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    return (
        list(attributes.get_ints("strides") or [1] * axes),
        list(attributes.get_ints("dilations") or [1] * axes),
        list((attributes.get_ints("pads") if explicit else None) or [0] * 2 * axes),
    )


def _halves(total: list[int], *, more_at_end: bool) -> list[int]:
    begin = [t // 2 if more_at_end else t - t // 2 for t in total]
    return begin + [t - b for t, b in zip(total, begin, strict=True)]


def _windows(
    size_in: list[int],
    size_out: list[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
) -> Windows:
    axes = len(kernel)
    return Windows(
        size_in=tuple(size_in),
        size_out=tuple(size_out),
        kernel=tuple(kernel),
        strides=tuple(strides),
        dilations=tuple(dilations),
        begin=tuple(pads[:axes]),
        end=tuple(pads[axes:]),
    )
