"""Ten thousand faults a network, from the flipped bit to the logits, on every choice of instructions: each has the
logits that ONNX Runtime computes from the corrupted tensor, bit for bit.

Faults are live sites of every register class that has any, as many of each class, uniform within it, over all layers.
What a fault leaves of its layer's output is worked out in NumPy here; ONNX Runtime runs what follows, unoptimised. A
fault without effect on that tensor must have the golden logits. About 6,000 faults a network have no closed form; none
of them is left out, as the cycle engine takes a few milliseconds for each. Hangs have no logits: some 300 a network,
beyond the ten thousand.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from oracle import cut_at, saved, session_of

from emulator.array.spec import ArraySpec
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strikes import CYCLE, ENGINES, Strikes
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import Network, load
from emulator.graph.qgraph import MacLayer
from emulator.graph.quantize import quantize
from emulator.instructions import available

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "benchmarks"))
import networks

ROOT = Path(__file__).parents[2]
GEMMINI = ArraySpec.preset("gemmini-16")
MODELS = ROOT / "tests" / "data" / "models"
IMAGES = 4
OF_A_CLASS = 40
"""Faults of a register class on each image: 69 classes have live sites."""
REQUIRED = 10_000

Values = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

# In a process of its own: instructions are chosen at import.
PROPAGATION = """
import pickle
import sys
from pathlib import Path

import numpy as np

from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.instructions import CHOSEN
from emulator.propagate.propagator import Propagator

golden = Golden(load(sys.argv[1]).graph)
propagator = Propagator(golden)
for file in map(Path, sys.argv[2:]):
    sample, layer, errors = pickle.loads(file.read_bytes())
    effects = propagator.run(golden.run(sample), layer, errors)
    np.savez(f"{file}.{CHOSEN.name}", logits=effects.logits, corrupted=effects.corrupted)
"""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network with its images (IMAGES, ...) and how many corrupted tensors ONNX Runtime takes together: float
    operators might round otherwise in another batch."""

    path: Path
    images: Values = field(repr=False)
    batch: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """Faults of one image and what they must lead to: logits (faults, classes) int8, corrupted (faults,) elements of
    the struck layer's output. file: what propagation is given."""

    file: Path
    faults: FaultBatch
    hang: Flags
    by_cycles: Flags
    golden: Values
    logits: Values
    corrupted: Values

    @property
    def reached(self) -> Flags:
        """Which faults change the logits; a hang has none."""
        return ~self.hang & (self.logits != self.golden).any(axis=1)


def of_literature(name: str, folder: Path) -> Subject:
    """Random weights, quantised here."""
    model = networks.NETWORKS[name]()
    _, *shape = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    images = np.random.default_rng(5).standard_normal((2 * IMAGES, *shape)).astype(np.float32)
    return Subject(path=saved(quantize(model, images[IMAGES:]), folder), images=images[:IMAGES], batch=64)


def transformer(folder: Path) -> Subject:
    """One block, trained on digits: both products of attention, LayerNormalization, Softmax and GELU."""
    with np.load(MODELS / "inputs.npz") as arrays:
        images = arrays["image"][:IMAGES]
    return Subject(path=MODELS / "torch_transformer_qdq_s8s8.onnx", images=images, batch=1)


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "ResNet-20": lambda folder: of_literature("resnet20", folder),
    "DS-CNN": lambda folder: of_literature("ds_cnn", folder),
    "transformer": transformer,
}


def evenly_over_classes(network: Network, rng: np.random.Generator) -> FaultBatch:
    """OF_A_CLASS faults of each register class with live sites, class after class."""
    alive = {row["register"] for row in FaultSpace(network, GEMMINI).breakdown() if row["live"]}
    drawn = [
        FaultSpace(network, GEMMINI, registers=[str(name)]).draw(rng, OF_A_CLASS) for name in sorted(alive)
    ]
    columns = FaultBatch.__slots__
    return FaultBatch(**{name: np.concatenate([getattr(part, name) for part in drawn]) for name in columns})


# ---- the corrupted tensor


def requantised(mac: MacLayer, acc: Values, n: Values) -> Values:
    """int8 of accumulators in columns n, round half to even (ONNX, QLinearConv)."""
    rule = mac.requantisation
    assert rule is not None
    rounded = np.rint(acc.astype(np.float32) * rule.scale[n])
    return np.clip(rounded + np.float32(rule.zero_point), rule.low, rule.high).astype(np.int8)


def in_onnx_order(mac: MacLayer, matrix: Values) -> Values:
    """The layer's output from the matrix (m, groups * n) that the array writes."""
    if mac.op == "Conv":
        ordered = matrix.T
    else:
        ordered = matrix.reshape(mac.shape.m, mac.shape.groups, mac.shape.n).swapaxes(0, 1)
    return ordered.reshape(mac.target_shape)


class StruckLayer:
    """A layer of one inference and its output, with or without a fault."""

    def __init__(self, golden: Golden, image: Inference, layer: int) -> None:
        self.mac = golden.graph.layers[layer]
        assert isinstance(self.mac.target, int)
        self.name = golden.graph.tensors[self.mac.target].name
        self.acc = golden.accumulator(image, layer)
        self.words = requantised(self.mac, self.acc, np.arange(self.mac.columns))
        np.testing.assert_array_equal(self.tensor(self.words), golden.value(image, self.name))

    def tensor(self, words: Values) -> Values:
        return in_onnx_order(self.mac, words)

    def corrupted(self, strikes: Strikes, fault: int) -> Values:
        """Errors of requantised words wrap in 8 bits, those of accumulators in 32."""
        part = slice(strikes.ptr[fault], strikes.ptr[fault + 1])
        m, n, delta = strikes.m[part], strikes.n[part], strikes.delta[part]
        words = self.words.copy()
        if strikes.at_output[fault]:
            np.add.at(words, (m, n), delta.astype(np.int8))
        else:
            acc = self.acc.copy()
            np.add.at(acc, (m, n), delta.astype(np.int32))
            words[m, n] = requantised(self.mac, acc[m, n], n)
        return self.tensor(words)


# ---- ONNX Runtime from there on


class AfterStrike:
    """ONNX Runtime from one tensor on, given many versions of it; what does not depend on it runs once a batch."""

    def __init__(self, network: Network, name: str, batch: int) -> None:
        answer = network.graph.answer
        assert answer is not None and answer.offset == 0
        self.name, self.answer, self.batch, self.graph = name, answer.name, batch, network.graph
        self.session = None if name == answer.name else open_batched(cut_at(network, name), answer.name)

    def logits(self, image: Values, tensors: Values) -> Values:
        """(faults, classes) int8 of tensors (faults, ...)."""
        if self.session is None:
            return tensors.reshape(len(tensors), -1)
        known = {given.name for given in self.session.get_inputs()}
        fixed = {name: array for name, array in self.graph.feeds(image).items() if name in known}
        found = [
            self.session.run([self.answer], fixed | {self.name: tensors[start : start + self.batch]})[0]
            for start in range(0, len(tensors), self.batch)
        ]
        return np.concatenate(found).reshape(len(tensors), -1)


def open_batched(model: onnx.ModelProto, answer: str) -> ort.InferenceSession:
    """The tensor that was cut free comes in batches; all else is one image, and broadcast."""
    del model.graph.value_info[:]  # for batches of 1
    model.graph.input[-1].type.tensor_type.shape.dim[0].dim_param = "faults"
    return session_of(model, [answer])


class Oracle:
    """What faults must lead to. Sessions are kept from one image to the next."""

    def __init__(self, network: Network, batch: int) -> None:
        self.network, self.golden, self.batch = network, Golden(network.graph), batch
        self.after: dict[int, AfterStrike] = {}

    def trial(self, sample: Values, faults: FaultBatch, file: Path) -> Trial:
        image = self.golden.run(sample)
        strikes = strike(self.golden, image, GEMMINI, faults)
        file.write_bytes(pickle.dumps((sample, faults.layer, strikes.errors)))
        right = self.golden.logits(image)
        trial = Trial(
            file=file, faults=faults, hang=strikes.hang, by_cycles=strikes.engine == ENGINES.index(CYCLE),
            golden=right, logits=np.tile(right, (len(faults), 1)), corrupted=np.zeros(len(faults), np.int64),
        )  # fmt: skip
        for layer in np.unique(faults.layer).tolist():
            self.answer(trial, strikes, StruckLayer(self.golden, image, layer), layer, sample)
        return trial

    def answer(self, trial: Trial, strikes: Strikes, struck: StruckLayer, layer: int, sample: Values) -> None:
        """Fill in what the faults of one layer lead to."""
        if layer not in self.after:
            self.after[layer] = AfterStrike(self.network, struck.name, self.batch)
        after, right = self.after[layer], struck.tensor(struck.words)
        np.testing.assert_array_equal(after.logits(sample, right), trial.golden[np.newaxis])
        chosen = np.flatnonzero((trial.faults.layer == layer) & (np.diff(strikes.ptr) > 0))
        tensors = np.concatenate([right[:0], *(struck.corrupted(strikes, fault) for fault in chosen)])
        trial.corrupted[chosen] = (tensors != right).sum(axis=tuple(range(1, right.ndim)))
        visible = trial.corrupted[chosen] > 0
        if visible.any():
            trial.logits[chosen[visible]] = after.logits(sample, tensors[visible])


# ---- the emulator


def propagated(instructions: str, model: Path, trials: Sequence[Trial]) -> Iterator[dict[str, Values]]:
    """Effects of the faults of each trial, by one choice of instructions."""
    done = subprocess.run(
        [sys.executable, "-c", PROPAGATION, str(model), *(str(trial.file) for trial in trials)],
        env=os.environ | {"EMULATOR_SIMD": instructions},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for trial in trials:
        with np.load(f"{trial.file}.{instructions}.npz") as effects:
            yield dict(effects)


def check_worth(trials: Sequence[Trial], layers: int) -> None:
    """Enough faults with logits, in every layer; a good part of them is seen there, whichever engine took them."""
    hang, by_cycles, reached, layer = (
        np.concatenate(parts)
        for parts in zip(*((t.hang, t.by_cycles, t.reached, t.faults.layer) for t in trials), strict=True)
    )
    assert np.unique(layer).tolist() == list(range(layers))
    assert (~hang).sum() >= REQUIRED
    assert reached[by_cycles].mean() > 0.25
    assert reached[~by_cycles].mean() > 0.25


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_ten_thousand_faults_have_the_logits_onnx_runtime_computes_from_the_corrupted_tensor(
    name: str, tmp_path: Path
) -> None:
    subject = SUBJECTS[name](tmp_path)
    network = load(subject.path)
    oracle = Oracle(network, subject.batch)
    trials = []
    for index, sample in enumerate(subject.images):
        faults = evenly_over_classes(network, np.random.default_rng([11, index]))
        trials.append(oracle.trial(sample, faults, tmp_path / f"image{index}"))
    check_worth(trials, len(network.graph.layers))
    for instructions in available():
        for trial, found in zip(trials, propagated(instructions, subject.path, trials), strict=True):
            assert found["logits"].dtype == trial.logits.dtype
            differs = (found["logits"] != trial.logits).any(axis=1) | (found["corrupted"] != trial.corrupted)
            wrong = np.flatnonzero(differs & ~trial.hang)
            assert not len(wrong), (instructions, len(wrong), trial.faults[wrong[:5]].upsets(GEMMINI))
