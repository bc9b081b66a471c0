"""Validation of a quantised deployment: the emulator against ONNX Runtime, tensor by tensor, bit for bit; the two
array engines against each other; the original file as it is deployed; accumulators against their width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.cycle import replay_layer
from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import Samples
from emulator.faults.plan import plan_of
from emulator.faults.strike import operands
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import Network
from emulator.graph.reference import OperatorReference, Reference
from emulator.graph.wide import as_stored

BATCH = 50


class Difference(NamedTuple):
    """How far two runs of one tensor are apart: differing elements, and by how many LSB at most."""

    elements: int
    max_lsb: int


@dataclass(slots=True, kw_only=True)
class _Layer:
    """What is gathered about a MAC layer over the samples."""

    name: str
    low: int = 0
    high: int = 0
    saturated: int = 0
    values: int = 0
    cycles: int = 0
    engine_mismatches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckReport:
    """mismatches: differing elements of each tensor against the QLinear form, none if all is well.

    operators, whole: the original file as ONNX Runtime runs it unoptimised (QDQ: in float between the
    integers); each operator given the emulator's integers, and the whole file end to end, where one rounding
    tie is carried on through the layers that follow.
    """

    samples: int
    tensors: int
    mismatches: dict[str, int] = field(repr=False)
    operators: dict[str, Difference] = field(repr=False)
    whole: dict[str, Difference] = field(repr=False)
    top1_agreement: float
    accuracy: float | None
    accuracy_original: float | None
    layers: list[dict[str, Any]] = field(repr=False)

    @property
    def engine_mismatches(self) -> int:
        return sum(int(layer["engine_mismatches"]) for layer in self.layers)

    @property
    def ok(self) -> bool:
        """Every tensor equal to the QLinear form, the cycle engine equal to the golden run, and every operator of
        the original file, which rounds in float, within 1 LSB."""
        return not self.mismatches and self.engine_mismatches == 0 and not self.far_operators

    @property
    def far_operators(self) -> list[str]:
        """Tensors of the original file that one operator alone puts more than 1 LSB away."""
        return [name for name, difference in self.operators.items() if difference.max_lsb > 1]

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "samples": self.samples,
            "tensors": self.tensors,
            "mismatched_tensors": len(self.mismatches),
            "mismatches": self.mismatches,
            "engine_mismatches": self.engine_mismatches,
            "original_operators": {name: d._asdict() for name, d in self.operators.items()},
            "original_end_to_end": {name: d._asdict() for name, d in self.whole.items()},
            "top1_agreement": self.top1_agreement,
            "accuracy": self.accuracy,
            "accuracy_original": self.accuracy_original,
            "layers": self.layers,
        }


def check(
    network: Network,
    array: ArraySpec,
    samples: Samples,
    *,
    cycle_images: int = 1,
    progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Compare over all samples; the cycle engine replays every layer of the first `cycle_images`."""
    golden = Golden(network.graph)
    reference = Reference(network)
    original, operators = Reference(network, original=True), OperatorReference(network)
    deployed = Reference(network, original=True, optimised=True)
    layers = [_Layer(name=layer.name) for layer in network.graph.layers]
    mismatches: dict[str, int] = {}
    alone: dict[str, Difference] = {}
    whole: dict[str, Difference] = {}
    answers, deployed_answers = [], []
    for start in range(0, len(samples), BATCH):
        inputs = samples.inputs[start : start + BATCH]
        runs = [golden.run(image) for image in inputs]
        ours = _tensors(golden, runs)
        for name, difference in _compare(ours, reference.tensors(inputs)).items():
            if difference.elements:
                mismatches[name] = mismatches.get(name, 0) + difference.elements
        _add(alone, _compare(ours, operators.tensors(inputs, ours)))
        _add(whole, _compare(ours, original.tensors(inputs)))
        answers += [int(golden.logits(run).argmax()) for run in runs]
        deployed_answers += deployed.logits(inputs).reshape(len(inputs), -1).argmax(axis=1).tolist()
        _gather(golden, runs, layers)
        for run in runs[: max(0, cycle_images - start)]:
            _replay(golden, run, array, layers)
        if progress is not None:
            progress(start + len(inputs))
    agree = np.array(answers) == np.array(deployed_answers)
    return CheckReport(
        samples=len(samples),
        tensors=len(reference.names),
        mismatches=mismatches,
        operators=alone,
        whole=whole,
        top1_agreement=float(agree.mean()),
        accuracy=_accuracy(answers, samples),
        accuracy_original=_accuracy(deployed_answers, samples),
        layers=[_layer_json(layer, array) for layer in layers],
    )


def _tensors(golden: Golden, runs: list[Inference]) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of the emulator over some images, in ONNX order and type."""
    return {
        tensor.name: tensor.to_onnx(np.stack([golden.tensor(run, index) for run in runs]))
        for index, tensor in enumerate(golden.graph.tensors)
    }


def _compare(ours: dict[str, npt.NDArray[Any]], theirs: dict[str, npt.NDArray[Any]]) -> dict[str, Difference]:
    result = {}
    for name, values in theirs.items():
        if name in ours:
            distance = np.abs(ours[name].astype(np.int16) - values.astype(np.int16))
            result[name] = Difference(int((distance > 0).sum()), int(distance.max()))
    return result


def _add(total: dict[str, Difference], more: dict[str, Difference]) -> None:
    for name, difference in more.items():
        before = total.get(name, Difference(0, 0))
        largest = max(before.max_lsb, difference.max_lsb)
        total[name] = Difference(before.elements + difference.elements, largest)


def _gather(golden: Golden, runs: list[Inference], layers: list[_Layer]) -> None:
    for index, (layer, mac) in enumerate(zip(layers, golden.graph.layers, strict=True)):
        rq = mac.requantisation
        for run in runs:
            acc = golden.accumulator(run, index)
            layer.low, layer.high = min(layer.low, int(acc.min())), max(layer.high, int(acc.max()))
            if rq is None or not isinstance(mac.target, int):
                continue
            out = golden.tensor(run, mac.target)
            # At the lower bound a value may sit there by ReLU; only the upper bound is lost information.
            layer.saturated += int((out == rq.high).sum())
            layer.values += out.size


def _replay(golden: Golden, run: Inference, array: ArraySpec, layers: list[_Layer]) -> None:
    """The array, cycle by cycle, through accumulator and requantiser, against the golden run."""
    for index, (layer, mac) in enumerate(zip(layers, golden.graph.layers, strict=True)):
        plan = plan_of(array, mac)
        replay = replay_layer(plan, operands(golden, run, index))
        layer.engine_mismatches += int((replay.accumulator != golden.accumulator(run, index)).sum())
        if mac.requantisation is not None and isinstance(mac.target, int):
            out = as_stored(mac, mac.requantisation(replay.accumulator))
            layer.engine_mismatches += int((out != golden.tensor(run, mac.target)).sum())
        layer.engine_mismatches += int(replay.cycles != plan.cycles)
        layer.cycles = replay.cycles


def _accuracy(answers: list[int], samples: Samples) -> float | None:
    return None if samples.labels is None else float((np.array(answers) == samples.labels).mean())


def _layer_json(layer: _Layer, array: ArraySpec) -> dict[str, Any]:
    needed = max(int(layer.high).bit_length(), int(-layer.low - 1).bit_length() if layer.low else 0) + 1
    return {
        "name": layer.name,
        "accumulator_min": layer.low,
        "accumulator_max": layer.high,
        "accumulator_bits_needed": needed,
        "accumulator_bits": array.acc_bits,
        "saturated_share": layer.saturated / max(1, layer.values),
        "cycles": layer.cycles,
        "engine_mismatches": layer.engine_mismatches,
    }
