"""Faults of an image to their effects: by kernels alone where only rows follow, else step by step, each host segment
and wide layer run again where what it reads has changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.faults.strikes import LayerErrors, errors_of
from emulator.graph.golden import Golden, Inference
from emulator.graph.program import Rows, Step, Wide
from emulator.graph.qgraph import MacLayer
from emulator.graph.wide import as_stored, in_shape, target_element
from emulator.propagate.classes import Changes, Classes
from emulator.propagate.delta import flow, propagate_many, write
from emulator.propagate.scratch import (
    Ints,
    Values,
    changed_elements,
    restore,
    scratch_for,
    settle_all,
)
from emulator.propagate.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effects:
    """What each fault, or each class of them, did.

    logits (faults, classes), as `Golden.logits` gives them; stage (faults,) Stage codes; corrupted (faults,): elements
    of the struck layer's output that changed; class_size (faults,): faults of the same run that store the same, itself
    among them.
    """

    logits: npt.NDArray[Any] = field(repr=False)
    stage: Values = field(repr=False)
    corrupted: Ints = field(repr=False)
    class_size: Ints = field(repr=False)


class Propagator:
    """Sparse propagation for one image at a time; reuse it, its working memory is allocated once."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self.scratch = scratch_for(golden.program)
        self._step_of = [golden.step_of(layer) for layer in range(len(golden.graph.layers))]
        self._step_of_row = {
            row: at
            for at, step in enumerate(golden.steps)
            if isinstance(step, Rows)
            for row in range(step.first, step.last)
        }

    def run(self, image: Inference, layer: Ints, errors: LayerErrors) -> Effects:
        """Faults of one image, fault f in MAC layer layer[f]; those that store the same are followed once. A fault
        without errors is masked in the array (Stage.ARRAY)."""
        compiled = self.golden.program.layer_op[layer] >= 0
        if compiled.all():
            return self._by_class(image, layer, errors)
        effects = self._blank(image, len(layer))
        chosen = np.flatnonzero(compiled)
        if len(chosen):
            apart = self._by_class(image, layer[chosen], errors_of(errors, chosen))
            for name in Effects.__slots__:
                getattr(effects, name)[chosen] = getattr(apart, name)
        self.scratch.current[:] = image.values
        for f in np.flatnonzero(~compiled & (np.diff(errors.ptr) > 0)).tolist():
            _Following(self, image).follow_wide(int(layer[f]), errors, f, effects)
        return effects

    def run_classes(self, image: Inference, changes: Changes) -> Effects:
        """Each class of faults of one image."""
        effects = self._blank(image, len(changes.op))
        effects.corrupted[:] = np.diff(changes.ptr)
        self.scratch.current[:] = image.values
        output = self.golden.graph.output
        if isinstance(output, int) and all(
            self._only_rows_follow(op) for op in np.unique(changes.op).tolist()
        ):
            propagate_many(
                self.golden.program, self.scratch, image.values, image.accumulators, output, changes,
                effects.logits, effects.stage,
            )  # fmt: skip
            return effects
        effects.stage[:] = changes.stage
        for c in np.flatnonzero(changes.stage == Stage.NONE).tolist():
            _Following(self, image).follow(changes, c, effects)
        return effects

    def _by_class(self, image: Inference, layer: Ints, errors: LayerErrors) -> Effects:
        classes = Classes(self.golden.program, image)
        of = classes.add(layer, errors)
        found = self.run_classes(image, classes.changes)
        return Effects(
            logits=found.logits[of],
            stage=found.stage[of],
            corrupted=found.corrupted[of],
            class_size=classes.sizes[of],
        )

    def _blank(self, image: Inference, count: int) -> Effects:
        """Nothing has happened."""
        return Effects(
            logits=np.repeat(self.golden.logits(image)[np.newaxis], count, axis=0),
            stage=np.full(count, Stage.ARRAY, np.int8),
            corrupted=np.zeros(count, np.int64),
            class_size=np.ones(count, np.int64),
        )

    def _only_rows_follow(self, op: int) -> bool:
        return self._step_of_row[op] == len(self.golden.steps) - 1


class _Following:
    """One class, or one fault of a wide layer, on its way through the steps. host: values that are no longer golden."""

    def __init__(self, propagator: Propagator, image: Inference) -> None:
        self.golden, self.scratch = propagator.golden, propagator.scratch
        self.step_of, self.step_of_row = propagator._step_of, propagator._step_of_row
        self.image = image
        self.host: dict[str, npt.NDArray[Any]] = {}

    def follow(self, changes: Changes, c: int, effects: Effects) -> None:
        """What a class stores in the target of a row."""
        op = int(changes.op[c])
        at = self.step_of_row[op]
        write(self.golden.program, self.scratch, self.image.values, changes, c)
        step = self.golden.steps[at]
        assert isinstance(step, Rows)
        self._flow(op + 1, step.last)
        self._finish(at, c, effects)

    def follow_wide(self, layer: int, errors: LayerErrors, f: int, effects: Effects) -> None:
        """Errors of a layer outside the kernels."""
        mac = self.golden.graph.layers[layer]
        effects.stage[f] = self._strike(layer, errors, f)
        effects.corrupted[f] = self._corrupted(mac)
        if effects.stage[f] == Stage.NONE:
            self._finish(self.step_of[layer], f, effects)

    def _finish(self, at: int, f: int, effects: Effects) -> None:
        """The steps behind the struck one, and the end."""
        for later in self.golden.steps[at + 1 :]:
            self._take(later)
        effects.stage[f] = self._answer(f, effects)
        restore(self.golden.program, self.scratch, self.image.values)

    def _strike(self, layer: int, errors: LayerErrors, f: int) -> Stage:
        image, mac = self.image, self.golden.graph.layers[layer]
        m, n, delta = (part[errors.ptr[f] : errors.ptr[f + 1]] for part in (errors.m, errors.n, errors.delta))
        acc = self.golden.accumulator(image, layer)
        wrong = acc.copy()
        if errors.at_output[f]:
            assert isinstance(mac.target, int)
            output = self.golden.tensor(image, mac.target).copy()
            np.add.at(
                output, target_element(mac, m.astype(np.int64), n.astype(np.int64)), delta.astype(np.int8)
            )
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
