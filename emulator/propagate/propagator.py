"""Faults of an image to their effects: by kernels alone where only rows follow, else step by step, each host segment
and wide layer run again where what it reads has changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.faults.strike import LayerErrors
from emulator.graph.golden import Golden, Inference
from emulator.graph.program import Rows, Step, Wide
from emulator.graph.qgraph import MacLayer
from emulator.graph.wide import as_stored, in_shape, target_element
from emulator.propagate.delta import Stage, flow, propagate_many, strike_layer
from emulator.propagate.scratch import (
    Ints,
    Values,
    changed_elements,
    restore,
    scratch_for,
    settle_all,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effects:
    """What each fault did. logits (faults, classes), as `Golden.logits` gives them; stage (faults,) Stage codes;
    corrupted (faults,): elements of the struck layer's output that changed."""

    logits: npt.NDArray[Any] = field(repr=False)
    stage: Values = field(repr=False)
    corrupted: Ints = field(repr=False)


class Propagator:
    """Sparse propagation for one image at a time; reuse it, its working memory is allocated once."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self.scratch = scratch_for(golden.program)
        self._step_of = [golden.step_of(layer) for layer in range(len(golden.graph.layers))]

    def run(self, image: Inference, layer: Ints, errors: LayerErrors) -> Effects:
        """Faults of one image, fault f in MAC layer layer[f]. A fault without errors is masked in the array
        (Stage.ARRAY)."""
        logits = self.golden.logits(image)
        effects = Effects(
            logits=np.empty((len(layer), len(logits)), logits.dtype),
            stage=np.full(len(layer), Stage.ARRAY, np.int8),
            corrupted=np.zeros(len(layer), np.int64),
        )
        self.scratch.current[:] = image.values
        output = self.golden.graph.output
        if isinstance(output, int) and all(self._only_rows_follow(i) for i in np.unique(layer)):
            op = self.golden.program.layer_op[layer]
            propagate_many(
                self.golden.program, self.scratch, image.values, image.accumulators, op, output, errors,
                effects.logits, effects.stage, effects.corrupted,
            )  # fmt: skip
            return effects
        effects.logits[:] = logits
        for f in np.flatnonzero(np.diff(errors.ptr)).tolist():
            _Following(self, image).follow(int(layer[f]), errors, f, effects)
        return effects

    def _only_rows_follow(self, layer: int) -> bool:
        last = len(self.golden.steps) - 1
        return self._step_of[layer] == last and isinstance(self.golden.steps[last], Rows)


class _Following:
    """One fault on its way through the steps. host: values that are no longer golden."""

    def __init__(self, propagator: Propagator, image: Inference) -> None:
        self.golden, self.scratch = propagator.golden, propagator.scratch
        self.step_of = propagator._step_of
        self.image = image
        self.host: dict[str, npt.NDArray[Any]] = {}

    def follow(self, layer: int, errors: LayerErrors, f: int, effects: Effects) -> None:
        mac = self.golden.graph.layers[layer]
        stage = self._strike(layer, errors, f)
        effects.corrupted[f] = self._corrupted(mac)
        at = self.step_of[layer]
        step = self.golden.steps[at]
        if stage == Stage.NONE:
            if isinstance(step, Rows):
                self._flow(int(self.golden.program.layer_op[layer]) + 1, step.last)
            for later in self.golden.steps[at + 1 :]:
                self._take(later)
            stage = self._answer(f, effects)
        effects.stage[f] = stage
        restore(self.golden.program, self.scratch, self.image.values)

    def _strike(self, layer: int, errors: LayerErrors, f: int) -> Stage:
        p, image = self.golden.program, self.image
        op = int(p.layer_op[layer])
        if op >= 0:
            return Stage(strike_layer(p, self.scratch, image.values, image.accumulators, op, errors, f))
        mac = self.golden.graph.layers[layer]
        m, n, delta = (part[errors.ptr[f] : errors.ptr[f + 1]] for part in (errors.m, errors.n, errors.delta))
        acc = self.golden.accumulator(image, layer)
        wrong = acc.copy()
        if errors.at_output[f]:
            assert isinstance(mac.target, int)
            output = self.golden.tensor(image, mac.target).copy()
            np.add.at(output, target_element(mac, m, n), delta.astype(np.int8))
            return Stage.NONE if self._settle(mac.target, output) else Stage.REQUANT
        np.add.at(wrong, (m, n), delta.astype(np.int32))
        if self._deliver(mac, wrong):
            return Stage.NONE
        if mac.requantisation is None:
            return Stage.ARRAY
        before, after = (mac.requantisation.rounded(x) for x in (acc, wrong))
        return Stage.CLAMP if (before != after).any() else Stage.REQUANT

    def _corrupted(self, mac: MacLayer) -> int:
        if isinstance(mac.target, int):
            s, image = self.scratch, self.image
            return int(changed_elements(self.golden.program, s, image.values, mac.target))
        changed = self.host.get(mac.target)
        return 0 if changed is None else int((changed != self.image.host[mac.target]).sum())

    def _take(self, step: Step) -> None:
        """One step, if anything it reads has changed."""
        if isinstance(step, Rows):
            if self.scratch.counts.any():
                self._flow(step.first, step.last)
        elif isinstance(step, Wide):
            mac = self.golden.graph.layers[step.layer]
            reads = (mac.source, mac.right, mac.zero_point, mac.weight_zero_point)
            tensors = (mac.source, mac.right)
            if self._changed(
                [r for r in reads if isinstance(r, str)], [t for t in tensors if isinstance(t, int)]
            ):
                self._deliver(mac, self.golden.wide(self._faulty(), step.layer).accumulate(mac.bias))
        else:
            index = self.golden.graph.index
            names = [name for name in step.inputs if name not in index]
            if self._changed(names, [index[name] for name in step.inputs if name in index]):
                faulty = self._faulty()
                feeds = {name: self.golden.value(faulty, name) for name in step.inputs}
                for name, array in zip(step.outputs, self.golden.host.run(step, feeds), strict=True):
                    self._put(name, array)

    def _flow(self, first: int, last: int) -> None:
        image = self.image
        flow(self.golden.program, self.scratch, image.values, image.accumulators, first, last)

    def _changed(self, names: list[str], tensors: list[int]) -> bool:
        return any(name in self.host for name in names) or any(self.scratch.counts[t] > 0 for t in tensors)

    def _faulty(self) -> Inference:
        return Inference(
            values=self.scratch.current,
            accumulators=self.image.accumulators,
            host=self.image.host | self.host,
        )

    def _deliver(self, mac: MacLayer, acc: npt.NDArray[np.int32]) -> bool:
        """The result of a wide layer; has it changed?"""
        if isinstance(mac.target, str):
            return self._put(mac.target, in_shape(mac, acc))
        assert mac.requantisation is not None
        return self._settle(mac.target, as_stored(mac, mac.requantisation(acc)))

    def _put(self, name: str, array: npt.NDArray[Any]) -> bool:
        index = self.golden.graph.index.get(name)
        if index is not None:
            return self._settle(index, self.golden.graph.tensors[index].from_onnx(array))
        golden = self.image.host[name]
        # Bits are compared, so that a NaN equals itself.
        if array.shape == golden.shape and array.tobytes() == golden.tobytes():
            return False
        self.host[name] = array
        return True

    def _settle(self, tensor: int, stored: npt.NDArray[np.int8]) -> bool:
        """A tensor written as a whole: note where it differs from golden."""
        return bool(settle_all(self.golden.program, self.scratch, self.image.values, tensor, stored))

    def _answer(self, f: int, effects: Effects) -> Stage:
        output = self.golden.graph.output
        if isinstance(output, int):
            if self.scratch.counts[output] == 0:
                return Stage.NETWORK
            effects.logits[f] = self.golden.tensor(self._faulty(), output)
            return Stage.NONE
        if output not in self.host:
            return Stage.NETWORK
        found = self.host[output].reshape(-1)
        # An answer of another length (detections) keeps what both have.
        effects.logits[f] = 0
        effects.logits[f, : len(found)] = found[: effects.logits.shape[1]]
        return Stage.NONE
