"""Operators that trade space for depth, and that change the size of an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from emulator.graph.rewriting import attributes_of
from emulator.graph.session import run_nodes
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("SpaceToDepth")
def space_to_depth(tape: Tape, arc: Arc) -> ir.Value:
    return tape.op("DepthToSpace", arc.grad, blocksize=arc.node.attributes.get_int("blocksize"), mode="DCR")


@rule("DepthToSpace")
def depth_to_space(tape: Tape, arc: Arc) -> ir.Value:
    """Space to depth; where the channels come first (CRD), moved behind the block afterwards."""
    block = arc.node.attributes.get_int("blocksize")
    grad = tape.op("SpaceToDepth", arc.grad, blocksize=block)
    if arc.node.attributes.get_string("mode", "DCR") == "DCR":
        return grad
    channels, height, width = tape.fixed(arc.x, start=1)
    blocks = tape.op("Reshape", grad, tape.ints(-1, block * block, channels // block**2, height, width))
    return tape.reshape(tape.op("Transpose", blocks, perm=[0, 2, 1, 3, 4]), arc.x)


@rule("Resize")
def resize(tape: Tape, arc: Arc) -> ir.Value:
    """Interpolation works axis by axis, so the adjoint is one matrix product for each axis that changes."""
    attributes = arc.node.attributes
    if attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise arc.refuse("it crops", "use Slice and another coordinate_transformation_mode")
    if arc.arg != 0:
        raise arc.refuse("a size needs a gradient", "use constant sizes or scales")
    before, after = tape.dims(arc.x), tape.dims(arc.y)
    scales, grad = _scales(tape, arc), arc.grad
    for axis in range(len(before)):
        size, target = before[axis], after[axis]
        if scales[axis] == 1.0 if axis in scales else size == target:
            continue
        if not isinstance(size, int) or not isinstance(target, int):
            raise arc.refuse(f"it resizes the dynamic axis {axis}", "only the batch may be dynamic")
        weights = _weights(arc.node, size, target, scales.get(axis))
        grad = tape.along(grad, arc.x, axis, weights.T)
    return grad


def _scales(tape: Tape, arc: Arc) -> dict[int, float]:
    """The scale of each axis, where the node has scales and not sizes."""
    given = arc.optional(2)
    values = [] if given is None else tape.array(given, "Resize scales").astype(np.float64).ravel().tolist()
    rank = tape.rank(arc.x)
    axes = list(arc.node.attributes.get_ints("axes") or range(rank))
    return {axis % rank: scale for axis, scale in zip(axes, values, strict=True)} if values else {}


def _weights(node: ir.Node, size: int, target: int, scale: float | None) -> npt.NDArray[np.float64]:
    """(size, target) how much of every element goes into every new one: ONNX Runtime resizes the unit vectors."""
    attributes = {
        name: value
        for name, value in attributes_of(node).items()
        if name not in ("axes", "keep_aspect_ratio_policy")
    }
    if scale is None:
        names, sizes = ["x", "", "", "sizes"], {"sizes": np.array([size, target], np.int64)}
    else:
        names, sizes = ["x", "", "scales"], {"scales": np.array([1, scale], np.float32)}
    single = onnx.helper.make_node("Resize", names, ["y"], **attributes)
    opset = [onnx.helper.make_opsetid("", 18)]
    unit = np.eye(size, dtype=np.float32)
    return run_nodes([single], {"x": unit}, "y", sizes, opset).astype(np.float64)
