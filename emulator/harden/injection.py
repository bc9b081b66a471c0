"""Faults as training sees them: what the hardware would store in place of a layer's results.

A fault in a register becomes an error of accumulators, that one of requantised values, and the difference to the
fault-free ones is added where the layer stores them. Nothing of the network is touched, so nothing has to be undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from emulator.faults.salvo import Salvo
from emulator.faults.strikes import UNSOLVED, errors_of
from emulator.graph.qgraph import QTensor
from emulator.propagate.classes import Classes
from emulator.sampling.past import no_past
from emulator.sampling.sampler import Sampler
from emulator.sampling.workbench import Workbench

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Injections:
    """Faults that change what their layer stores: image (faults,), tensor (faults,) index of the tensor that is wrong,
    and errors error[ptr[f]:ptr[f + 1]], real units, at `place` in ONNX order."""

    image: Ints = field(repr=False)
    tensor: Ints = field(repr=False)
    ptr: Ints = field(repr=False)
    place: Ints = field(repr=False)
    error: Floats = field(repr=False)

    def __len__(self) -> int:
        return len(self.image)

    def write(self, fault: int, row: Floats) -> None:
        """Adds the errors of a fault to a row of its tensor, (elements,)."""
        some = slice(self.ptr[fault], self.ptr[fault + 1])
        row[self.place[some]] += self.error[some]


def injections(bench: Workbench, sampler: Sampler, rng: np.random.Generator, count: int) -> Injections:
    """Of `count` draws those that are not masked in the array or by requantisation, and have a closed form."""
    drawn = sampler.draw(bench, rng, count, no_past())
    salvo = Salvo(bench.golden, bench.array, drawn.faults, drawn.image)
    parts = [_of_volley(bench, salvo, number) for number in range(len(salvo.volleys))]
    sizes = np.concatenate([np.diff(part.ptr) for part in parts])
    return Injections(
        image=np.concatenate([part.image for part in parts]),
        tensor=np.concatenate([part.tensor for part in parts]),
        ptr=np.concatenate(([0], np.cumsum(sizes))),
        place=np.concatenate([part.place for part in parts]),
        error=np.concatenate([part.error for part in parts]),
    )


def _of_volley(bench: Workbench, salvo: Salvo, number: int) -> Injections:
    """Those of one image."""
    volley, graph, program = salvo.volleys[number], bench.network.graph, bench.golden.program
    image = bench.inference(volley.image)
    strikes = salvo.strike(image, volley, by_cycles=False)
    layer = salvo.faults.layer[volley.place]
    followed = np.flatnonzero((strikes.engine != UNSOLVED) & ~strikes.hang & (program.layer_op[layer] >= 0))
    classes = Classes(program, image)
    of = classes.add(layer[followed], errors_of(strikes.errors, followed))
    changes = classes.changes
    wrong = np.diff(changes.ptr)[of] > 0
    targets = [graph.layers[index].target for index in layer[followed][wrong].tolist()]
    tensor = np.array([target for target in targets if isinstance(target, int)], np.int64)
    place, error = [], []
    for c, index in zip(of[wrong].tolist(), tensor.tolist(), strict=True):
        some, start = slice(changes.ptr[c], changes.ptr[c + 1]), program.tensor_start[index]
        element, known = changes.element[some], graph.tensors[index]
        step = changes.value[some].astype(np.float32) - image.values[start + element].astype(np.float32)
        place.append(bench.once(("ONNX order", index), partial(_onnx_place, known))[element])
        error.append(step * np.float32(known.scale))
    return Injections(
        image=np.full(len(tensor), volley.image),
        tensor=tensor,
        ptr=np.concatenate(([0], np.cumsum([len(part) for part in place], dtype=np.int64))),
        place=np.concatenate([np.zeros(0, np.int64), *place]),
        error=np.concatenate([np.zeros(0, np.float32), *error]),
    )


def _onnx_place(tensor: QTensor) -> Ints:
    """(size,) where in ONNX order each stored element is."""
    place = np.empty(tensor.size, np.int64)
    place[tensor.in_order(np.arange(tensor.size)[np.newaxis]).reshape(-1)] = np.arange(tensor.size)
    return place
