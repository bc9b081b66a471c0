"""How much memory a campaign needs, before anything runs: upper bounds, from what was measured (docs/benchmarks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emulator.array.checkpoint import snapshot_bytes
from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import Samples
from emulator.faults.footprint import run_bytes
from emulator.faults.layers_on_cycles import ROOM_BYTES
from emulator.faults.plan import plan_of
from emulator.faults.salvo import VOLLEY
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden
from emulator.graph.load import Network
from emulator.sampling.baselines import Scored
from emulator.sampling.counted import Counted
from emulator.sampling.foreseeing import Foreseeing
from emulator.sampling.sampler import Sampler
from emulator.sensitivity.horizon import STRUCK, horizons
from emulator.sensitivity.jacobian import RIVALS

MIB = 1 << 20

# Interpreter, libraries, and the code of the kernels.
LIBRARIES_BYTES = 250 * MIB
KERNELS_BYTES = 100 * MIB
# The model is held as it was and as integers, with what reading it leaves behind.
COPIES = 12
# ONNX Runtime's gradient session: float weights, turned round for the way back and packed; and its activations.
GRADIENT_COPIES = 40
GRADIENT_ACTIVATION_BYTES = 10
# A chunk of trials: with sites to choose from, and without.
SCORED_BYTES = 250 * MIB
DRAWN_BYTES = 100 * MIB
# Errors of a volley, where each fault spoils a whole column of sums.
SUM_BYTES = 20
# A row of a chunk where classes of sites are counted; as many for an output of the layer and a register, and in all.
ROW_BYTES = 1600
ROWS_PER_REGISTER = 12
MOST_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes. idle: a process that has loaded the campaign; work: what one that does chunks takes beside that; run and
    jacobians: what is known about one image, the latter 0 where the sampler needs none; images: how many."""

    idle: int
    work: int
    run: int
    jacobians: int
    images: int

    @property
    def image(self) -> int:
        """All that is known about one image."""
        return self.run + self.jacobians

    @property
    def process(self) -> int:
        """The least with which a process can do chunks: it knows one image at a time."""
        return self.idle + self.work + self.image


def footprint(network: Network, space: FaultSpace, samples: Samples, sampler: Sampler | Counted) -> Footprint:
    """Of a campaign of these."""
    graph, array, file = network.graph, space.array, network.original.ByteSize()
    lookahead = _lookahead(sampler)
    work = KERNELS_BYTES + _cycle_bytes(network, array)
    work += SUM_BYTES * VOLLEY * max(layer.shape.m for layer in graph.layers)
    work += DRAWN_BYTES if lookahead is None else SCORED_BYTES
    if lookahead is not None and getattr(sampler, "sensitivity", "gradient") == "gradient":
        values = sum(tensor.size for tensor in graph.tensors)
        work += GRADIENT_COPIES * file + GRADIENT_ACTIVATION_BYTES * values
    if not isinstance(sampler, Sampler):
        work += _row_bytes(space)
    return Footprint(
        idle=LIBRARIES_BYTES + COPIES * file + _input_bytes(samples),
        work=work,
        run=run_bytes(graph, array),
        jacobians=0 if lookahead is None else _jacobian_bytes(network, lookahead),
        images=len(samples),
    )


def _lookahead(sampler: Sampler | Counted) -> int | None:
    """Where the sampler's Jacobians begin; None: it needs none."""
    if isinstance(sampler, Foreseeing):
        return sampler.lookahead
    return STRUCK if isinstance(sampler, Scored) else None


def _jacobian_bytes(network: Network, lookahead: int) -> int:
    graph = network.graph
    tensors = {h.tensor for h in horizons(Golden(graph), lookahead) if h is not None}
    elements = sum(graph.tensors[tensor].size for tensor in tensors)
    return elements * min(RIVALS, graph.classes) * np.dtype(np.float32).itemsize


def _row_bytes(space: FaultSpace) -> int:
    """The rows of the largest layer, which is a chunk."""
    layers = [space.graph.layers[index] for index in {stratum.layer for stratum in space.strata}]
    registers = len({stratum.register.name for stratum in space.strata if stratum.live})
    outputs = max(layer.shape.m * layer.columns for layer in layers)
    return ROW_BYTES * min(MOST_ROWS, ROWS_PER_REGISTER * registers) * outputs


def _cycle_bytes(network: Network, array: ArraySpec) -> int:
    """Layers kept ready for the cycle engine."""
    return min(ROOM_BYTES, sum(snapshot_bytes(plan_of(array, layer)) for layer in network.graph.layers))


def _input_bytes(samples: Samples) -> int:
    arrays = [each.values() if isinstance(each, Mapping) else (each,) for each in samples.inputs]
    return sum(array.nbytes for sample in arrays for array in sample)
