"""Validation of a quantised deployment: the emulator against ONNX Runtime, tensor by tensor, bit for bit; the two
array engines against each other; the original file as it is deployed; the float model; sums against their width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.cycle import replay_layer
from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import Samples, samples_of
from emulator.campaign.validation import differences, layers
from emulator.campaign.validation.answers import Answers
from emulator.campaign.validation.differences import Difference
from emulator.campaign.validation.float_comparison import NO_NOISE, FloatComparison
from emulator.campaign.validation.headroom import Headroom
from emulator.campaign.validation.input_clipping import InputClipping
from emulator.campaign.validation.report import CheckReport, OriginalFile
from emulator.campaign.validation.saturation import Saturation
from emulator.faults.plan import plan_of
from emulator.faults.strike import operands
from emulator.graph.deployment import deploy
from emulator.graph.float_model import FloatSource, match
from emulator.graph.golden import Golden, Inference
from emulator.graph.input_quantisers import InputQuantisers
from emulator.graph.load import Network
from emulator.graph.qgraph import Sample
from emulator.graph.reference import OperatorReference, Reference
from emulator.graph.wide import as_stored

BATCH = 50


@dataclass(slots=True, kw_only=True)
class LayerCheck:
    """What is gathered about a MAC layer over the samples."""

    headroom: Headroom
    saturation: Saturation = field(default_factory=Saturation)
    cycles: int = 0
    engine_mismatches: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            **self.headroom.accumulator.to_json("accumulator"),
            **self.headroom.partial.to_json("partial_sum"),
            **self.saturation.to_json(),
            "cycles": self.cycles,
            "engine_mismatches": self.engine_mismatches,
        }


def check(
    network: Network,
    array: ArraySpec,
    inputs: str | Path | npt.NDArray[Any] | Samples,
    *,
    limit: int | None = None,
    cycle_images: int = 1,
    float_model: FloatSource | None = None,
    progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Compare over all samples; the cycle engine replays every layer of the first `cycle_images`.

    inputs, limit: as in `Campaign`. float_model: what the network was quantised from; raises BadConfig where its input
    is another one.
    """
    samples = samples_of(inputs, network.graph, limit)
    run = _Check(network, array, float_model)
    for start in range(0, len(samples), BATCH):
        batch = samples.inputs[start : start + BATCH]
        runs = run.batch(batch)
        for inference in runs[: max(0, cycle_images - start)]:
            run.replay(inference)
        if progress is not None:
            progress(start + len(batch))
    return run.report(samples)


class _Check:
    """Everything compared so far."""

    def __init__(self, network: Network, array: ArraySpec, float_model: FloatSource | None) -> None:
        graph = network.graph
        self.network, self.array, self.golden = network, array, Golden(graph)
        self.reference, self.operators = Reference(network), OperatorReference(network)
        self.original = Reference(network, original=True)
        self.optimised = Reference(network, original=True, optimised=True)
        self.deployment = deploy(network)
        self.float = None if float_model is None else FloatComparison.of(match(float_model, network), graph)
        self.layers = [
            LayerCheck(headroom=Headroom.of(array, plan_of(array, layer))) for layer in graph.layers
        ]
        self.quantisers = InputQuantisers.of(network)
        self.clipping = [InputClipping(quantiser=each) for each in self.quantisers.quantisers]
        self.equal: dict[str, Difference] = {}
        self.alone: dict[str, Difference] = {}
        self.whole: dict[str, Difference] = {}
        self.deployed: dict[str, Difference] = {}
        self.begins: dict[str, Difference] = {}
        self.logits: list[npt.NDArray[Any]] = []
        self.optimised_logits: list[npt.NDArray[np.float32]] = []

    def batch(self, inputs: Sequence[Sample]) -> list[Inference]:
        """Compare a batch of samples; its fault-free runs."""
        runs = [self.golden.run(sample) for sample in inputs]
        ours = _tensors(self.golden, runs)
        differences.add(self.equal, differences.compare(ours, self.reference.tensors(inputs)))
        differences.add(self.alone, differences.compare(ours, self.operators.tensors(inputs, ours)))
        differences.add(self.whole, differences.compare(ours, self.original.tensors(inputs)))
        theirs = self.deployment.run(self.network, inputs)
        differences.add(self.deployed, differences.compare(ours, theirs))
        differences.add(self.begins, differences.origins(self.deployment, ours, theirs))
        for clipping, values in zip(self.clipping, self.quantisers.values(inputs), strict=True):
            clipping.add(values)
        self.logits += [self.golden.logits(run).reshape(-1) for run in runs]
        self.optimised_logits += list(self.optimised.logits(inputs).reshape(len(inputs), -1))
        if self.float is not None:
            self.float.add(self.golden, runs, inputs)
        for index, layer in enumerate(self.layers):
            for run in runs:
                layer.headroom.add(layers.product(self.golden, run, index))
                output = layers.output(self.golden, run, index)
                if output is not None:
                    layer.saturation.add(output)
        return runs

    def replay(self, run: Inference) -> None:
        """The array, cycle by cycle, through accumulator and requantiser, against the golden run."""
        for index, (layer, mac) in enumerate(zip(self.layers, self.network.graph.layers, strict=True)):
            plan = plan_of(self.array, mac)
            replay = replay_layer(plan, operands(self.golden, run, index))
            layer.engine_mismatches += int((replay.accumulator != self.golden.accumulator(run, index)).sum())
            if mac.requantisation is not None and isinstance(mac.target, int):
                out = as_stored(mac, mac.requantisation(replay.accumulator))
                layer.engine_mismatches += int((out != self.golden.tensor(run, mac.target)).sum())
            layer.engine_mismatches += int(replay.cycles != plan.cycles)
            layer.cycles = replay.cycles

    def report(self, samples: Samples) -> CheckReport:
        graph = self.network.graph
        logits, optimised = np.stack(self.logits), np.stack(self.optimised_logits)
        rows = [
            {"name": name, **layer.to_json(), **self._noise(index), **self._bias(index)}
            for index, (name, layer) in enumerate(zip(layers.names(graph), self.layers, strict=True))
        ]
        return CheckReport(
            samples=len(samples),
            labels=samples.labels,
            tensors=len(self.reference.names),
            mismatches={name: d.elements for name, d in self.equal.items() if d.elements},
            answers=Answers(logits=logits, real=layers.real(graph, logits)),
            original=OriginalFile(
                operators=self.alone,
                whole=self.whole,
                deployed=self.deployed,
                begins=self.begins,
                deployment=self.deployment,
                answers=Answers(logits=optimised, real=optimised),
            ),
            float_answers=self._float_answers(),
            array=self.array,
            inputs=[clipping.to_json() for clipping in self.clipping],
            layers=rows,
        )

    def _noise(self, index: int) -> dict[str, Any]:
        noise = None if self.float is None else self.float.layers[index]
        return NO_NOISE if noise is None else noise.to_json()

    def _bias(self, index: int) -> dict[str, Any]:
        clipped, wrapped = layers.bias_overflow(self.network.graph, index)
        return {"bias_clipped": clipped, "bias_wrapped": wrapped}

    def _float_answers(self) -> Answers | None:
        if self.float is None:
            return None
        logits = np.concatenate(self.float.logits)
        return Answers(logits=logits, real=logits)


def _tensors(golden: Golden, runs: list[Inference]) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of the emulator over some images, and the sums that are results, in ONNX order and type."""
    found = {
        tensor.name: tensor.to_onnx(np.stack([golden.tensor(run, index) for run in runs]))
        for index, tensor in enumerate(golden.graph.tensors)
    }
    results = [layer.target for layer in golden.graph.layers if isinstance(layer.target, str)]
    return found | {name: np.stack([run.host[name] for run in runs]) for name in results}
