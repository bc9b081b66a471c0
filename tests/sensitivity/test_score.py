"""Scores and their horizons: what is exact must be, and what scores zero must be harmless."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import Builder, Sample, Tensor, quantised_models

from emulator.array.spec import ArraySpec
from emulator.campaign.config import make_config
from emulator.campaign.inputs import random_samples
from emulator.errors import BadConfig, UnsupportedModel
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strikes import Strikes
from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.graph.program import Rows
from emulator.graph.qgraph import HostOp, MacLayer, QuantGraph
from emulator.propagate.classes import Classes
from emulator.propagate.outcome import judge
from emulator.propagate.propagator import Propagator
from emulator.sampling.importance import Importance
from emulator.sampling.past import no_past
from emulator.sampling.rng import rng_for
from emulator.sampling.workbench import Workbench
from emulator.sensitivity import jacobian
from emulator.sensitivity.crossing import crossing
from emulator.sensitivity.horizon import horizons
from emulator.sensitivity.jacobian import Sensitivity

ALL_LAYERS = 99
SENSITIVITIES: tuple[Sensitivity, ...] = ("gradient", "finite-difference")
FOLDER = Path(__file__).parents[1] / "data/models"


def bench_of(bundled: Any, images: int = 30) -> Workbench:
    space = FaultSpace(bundled.network, bundled.array)
    return Workbench(bundled.network, bundled.array, space, bundled.inputs[:images])


# ---- horizons


def reads(op: Any) -> set[Any]:
    """Tensors an operator reads, whoever runs it."""
    return {op.source, getattr(op, "right", None)} - {None}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Operators that follow each other in the kernels, and what others read later or is the answer."""

    ops: list[Any]
    kept: set[int]


def runs_of(graph: QuantGraph) -> list[Run]:
    """Between host segments and products outside the kernels."""
    runs: list[list[Any]] = [[]]
    kept = {graph.output}
    for op in graph.ops:
        if isinstance(op, HostOp):
            kept |= {graph.index.get(name) for name in op.inputs}
        elif isinstance(op, MacLayer) and not op.compiled:
            kept |= reads(op)
        else:
            runs[-1].append(op)
            continue
        runs.append([])
    found = [run for run in runs if run]
    return [Run(ops=run, kept=kept | _read_in(found[i + 1 :])) for i, run in enumerate(found)]


def _read_in(runs: list[list[Any]]) -> set[int]:
    return {tensor for run in runs for op in run for tensor in reads(op)}


def changed_by(run: Run, struck: int, last: int) -> tuple[set[int], int]:
    """Tensors computed up to operator `last` that may differ from golden, and MAC layers crossed on the way."""
    changed, crossed = {run.ops[struck].target}, 0
    for op in run.ops[struck + 1 : last + 1]:
        if changed & reads(op):
            changed.add(op.target)
            crossed += isinstance(op, MacLayer)
    return changed, crossed


def stale_after(run: Run, struck: int, last: int) -> set[int]:
    """Those of them that something later reads, or that are the answer."""
    return changed_by(run, struck, last)[0] & (_read_in([run.ops[last + 1 :]]) | run.kept)


def check_horizons(graph: QuantGraph, lookahead: int) -> None:
    """One tensor carries every change across the horizon, and no later operator would do within the budget."""
    found = iter(horizons(Golden(graph), lookahead))
    first = 0
    compiled = [layer for layer in graph.layers if layer.compiled]
    by_layer = dict(zip(map(id, graph.layers), found, strict=True))
    for run in runs_of(graph):
        for struck, op in enumerate(run.ops):
            if not isinstance(op, MacLayer):
                continue
            allowed = [
                last
                for last in range(struck, len(run.ops))
                if changed_by(run, struck, last)[1] <= lookahead and len(stale_after(run, struck, last)) == 1
            ]
            horizon = by_layer.pop(id(op))
            assert horizon is not None
            assert horizon.op - first in allowed
            assert stale_after(run, struck, horizon.op - first) == {horizon.tensor}
            assert horizon.tensor == stale_after(run, struck, allowed[-1]).pop()
        first += len(run.ops)
    assert len(by_layer) == len(graph.layers) - len(compiled)
    assert set(by_layer.values()) <= {None}


@pytest.mark.parametrize("lookahead", [0, 1, 2, ALL_LAYERS])
def test_the_horizon_of_a_bundled_model_cuts_every_changed_path(bundled: Any, lookahead: int) -> None:
    check_horizons(bundled.network.graph, lookahead)


@given(sample=quantised_models(most=7), lookahead=st.integers(0, 3))
@settings(max_examples=100)
def test_the_horizon_of_a_random_network_cuts_every_changed_path(
    tmp_path_factory: pytest.TempPathFactory, sample: Sample, lookahead: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "horizon.onnx"
    onnx.save(sample.model, path)
    check_horizons(load(path).graph, lookahead)


@pytest.mark.parametrize("lookahead", [0, 1, 2, 3])
def test_a_horizon_never_lies_between_two_parallel_layers(tmp_path: Path, lookahead: int) -> None:
    """stem, then left(stem) + right(stem), then head: with one layer ahead the change is still in two tensors."""
    b = Builder(np.random.default_rng(1))

    def layer(x: Tensor) -> Tensor:
        return b.mac(
            "Gemm", x, (6, 6), (1, 6), k=6, channels=6, per_channel=False, with_bias=True, axis=1, attributes={}
        )  # fmt: skip

    stem = layer(b.input((1, 6)))
    onnx.save(b.model(layer(b.add(layer(stem), layer(stem)))), tmp_path / "forked.onnx")
    graph = load(tmp_path / "forked.onnx").graph
    check_horizons(graph, lookahead)
    found = graph.tensors[horizons(Golden(graph), lookahead)[0].tensor].name
    sums = {tensor.name for tensor in graph.tensors} - {stem.name}
    assert (found == stem.name) if lookahead < 2 else (found in sums)


def test_the_answer_depends_on_nothing_but_the_horizon(bundled: Any) -> None:
    """Brute force: the tensor at the horizon, taken from a faulty run, gives the faulty answer on its own."""
    golden, graph = bundled.golden, bundled.network.graph
    image = bundled.inference(2)
    rng = np.random.default_rng(0)
    for lookahead in (0, 1, 2):
        for layer, horizon in enumerate(horizons(golden, lookahead)):
            channels = graph.layers[layer].shape.n * graph.layers[layer].shape.groups
            count = min(8, channels)
            n = rng.choice(channels, count, replace=False)
            m = rng.integers(0, graph.layers[layer].shape.m, count)
            again = golden.rerun(image, layer, m, n, np.full(count, 1 << 24))
            late = image.copy()
            golden.tensor(late, horizon.tensor)[:] = golden.tensor(again, horizon.tensor)
            golden.run_step(late, Rows(horizon.op + 1, len(golden.program.ops)))
            np.testing.assert_array_equal(golden.logits(late), golden.logits(again))


# ---- predicted changes and scores


def predicted(
    bench: Workbench,
    image: int,
    faults: FaultBatch,
    strikes: Strikes,
    lookahead: int,
    sensitivity: Sensitivity,
) -> tuple[Any, Any]:
    """(faults, classes) predicted change, and which are alive."""
    classes = Classes(bench.golden.program, bench.inference(image))
    of = classes.add(faults.layer, strikes.errors)
    change, alive = bench.predictor(image, lookahead, sensitivity).predicted_change(classes.changes)
    return change[of], alive[of]


def score_of(
    bench: Workbench,
    image: int,
    faults: FaultBatch,
    strikes: Strikes,
    lookahead: int,
    sensitivity: Sensitivity,
) -> Any:
    return crossing(bench.predictor(image, lookahead, sensitivity).outlook(faults.layer, strikes))


def test_with_full_lookahead_the_predicted_change_is_the_change(bundled: Any) -> None:
    bench = bench_of(bundled)
    for image in (0, 4):
        faults = bench.space.draw(np.random.default_rng(image), 400)
        inference = bench.inference(image)
        strikes = strike(bench.golden, inference, bench.array, faults, by_cycles=False)
        change, alive = predicted(bench, image, faults, strikes, ALL_LAYERS, "gradient")
        moved = 0
        for i, layer in enumerate(faults.layer.tolist()):
            part = slice(strikes.ptr[i], strikes.ptr[i + 1])
            again = bench.golden.rerun(
                inference, layer, strikes.m[part], strikes.n[part], strikes.delta[part]
            )
            want = bench.golden.logits(again).astype(int) - bench.golden.logits(inference).astype(int)
            np.testing.assert_allclose(change[i], want, atol=1e-2)
            assert alive[i] == bool(want.any())
            moved += alive[i]
        assert moved > 20


@pytest.mark.parametrize(
    ("lookahead", "sensitivity"),
    [(0, "gradient"), (1, "gradient"), (2, "gradient"), (2, "finite-difference")],
)
def test_a_fault_that_scores_zero_is_masked(bundled: Any, lookahead: int, sensitivity: Sensitivity) -> None:
    bench = bench_of(bundled)
    images, each = 20, 100
    zeros = 0
    for image in range(images):
        faults = bench.space.draw(np.random.default_rng((lookahead, image)), each)
        inference = bench.inference(image)
        strikes = strike(bench.golden, inference, bench.array, faults, by_cycles=False)
        score = score_of(bench, image, faults, strikes, lookahead, sensitivity)
        assert ((score >= 0) & (score <= 1)).all()
        effects = Propagator(bench.golden).run(inference, faults.layer, strikes.errors)
        golden = bench.golden.logits(inference)
        harmless = (effects.logits == golden).all(axis=1)
        assert harmless[score == 0].all()
        zeros += int((score == 0).sum())
    assert zeros > 200


@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
def test_scores_rank_what_flips_the_answer_first(digits: Any, sensitivity: Sensitivity) -> None:
    """Among accumulator flips of the second convolution the flips of the top-1 score far above the rest."""
    space = FaultSpace(digits.network, digits.array, registers=["accumulator"], layers=["conv2"])
    margins = Workbench(digits.network, digits.array, space, digits.inputs[:200]).margins
    closest = np.argsort(margins, kind="stable")[:8]
    bench = Workbench(digits.network, digits.array, space, digits.inputs[closest])
    wins: list[float] = []
    for image in range(bench.images):
        faults = space.draw(np.random.default_rng(image), 1500)
        inference = bench.inference(image)
        strikes = strike(bench.golden, inference, bench.array, faults, by_cycles=False)
        effects = bench.propagator.run(inference, faults.layer, strikes.errors)
        answer = digits.network.graph.tensors[digits.network.graph.output]
        critical = judge(answer, bench.golden.logits(inference), effects.logits).sdc1
        score = score_of(bench, image, faults, strikes, 0, sensitivity)
        if critical.any() and not critical.all():
            # The area under the ROC curve: how often a critical fault outranks a harmless one.
            above = score[critical][:, np.newaxis] - score[~critical]
            wins.append(float((above > 0).mean() + 0.5 * (above == 0).mean()))
    assert len(wins) >= 4
    assert np.mean(wins) > 0.9


def test_with_fewer_rivals_no_more_of_the_margin_is_foreseen_to_be_lost(
    digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it is left of the nearest of those that are followed; most often they are enough."""
    left = {}
    for rivals in (3, 10):
        monkeypatch.setattr(jacobian, "RIVALS", rivals)
        bench = bench_of(digits, images=4)
        faults = bench.space.draw(np.random.default_rng(0), 2000)
        found = Importance().outlook(bench, np.arange(2000) % 4, faults)
        left[rivals], alive = found.left, found.alive
    assert (left[3] >= left[10]).all()
    assert (left[3][alive] == left[10][alive]).mean() > 0.9


def test_an_answer_that_is_read_again_stays_ahead(tmp_path: Path, digits: Any) -> None:
    """A second output made of the answer does not draw the horizon past it."""
    model = onnx.load(digits.path)
    answer = model.graph.node[-1].input[0]
    scale, zero = model.graph.node[-1].input[1:]
    model.graph.node.extend(
        [
            onnx.helper.make_node("Transpose", [answer], ["turned"], perm=[1, 0]),
            onnx.helper.make_node("DequantizeLinear", ["turned", scale, zero], ["second"]),
        ]
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, [10, "N"]))
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    graph = load(path, answer="logits").graph
    rows = Golden(graph).program.ops
    ahead = horizons(Golden(graph), ALL_LAYERS)
    assert any(graph.output == row[1] for row in rows)
    assert {horizon.tensor for horizon in ahead if horizon is not None} == {graph.output}


# ---- either sensitivity


def bench_of_file(name: str, **chosen: Any) -> Workbench:
    network, array = load(FOLDER / f"{name}.onnx"), ArraySpec.preset("gemmini-16")
    samples = random_samples(network.graph, 2, seed=3)
    return Workbench(network, array, FaultSpace(network, array, **chosen), samples.inputs)


@pytest.mark.parametrize("name", ["loop_qdq_s8s8", "if_qdq_s8s8", "sklearn_mlp_qdq_s8s8"])
def test_a_network_without_gradients_is_sampled_by_finite_differences(name: str) -> None:
    bench = bench_of_file(name, registers=["accumulator"])
    with pytest.raises(UnsupportedModel, match=r"no gradient rule for .*--sensitivity finite-difference"):
        Importance().draw(bench, rng_for(1, 0), 20, no_past())
    sampler = Importance(sensitivity="finite-difference", lookahead=0)
    drawn = sampler.draw(bench, rng_for(1, 0), 200, no_past())
    weight = np.exp(drawn.log_weight)
    assert len(drawn.faults) == 200
    assert ((weight > 0) & (weight <= sampler.max_weight * (1 + 1e-9))).all()
    assert weight.std() > 0


def test_the_predicted_change_of_a_network_without_gradients_goes_with_the_change() -> None:
    """Of accumulator flips in front of a loop; the answer is exact, through the host segment."""
    bench = bench_of_file("loop_qdq_s8s8", registers=["accumulator"])
    found, want = [], []
    for image in range(bench.images):
        faults = bench.space.draw(np.random.default_rng(image), 600)
        inference = bench.inference(image)
        strikes = strike(bench.golden, inference, bench.array, faults, by_cycles=False)
        found.append(predicted(bench, image, faults, strikes, 0, "finite-difference")[0])
        logits = bench.propagator.run(inference, faults.layer, strikes.errors).logits
        want.append(logits.astype(float) - bench.golden.logits(inference))
    guessed, true = np.concatenate(found), np.concatenate(want)
    moved = true.any(axis=1)
    assert moved.sum() > 50
    assert np.corrcoef(guessed[moved].ravel(), true[moved].ravel())[0, 1] > 0.8


@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
@pytest.mark.parametrize("name", ["torch_transformer_qop_u8u8", "torch_transformer_dynamic"])
def test_faults_in_layers_outside_the_kernels_score_unsolved(name: str, sensitivity: Sensitivity) -> None:
    bench = bench_of_file(name, registers=["accumulator"])
    wide = [i for i, layer in enumerate(bench.network.graph.layers) if not layer.compiled]
    faults = bench.space.draw(np.random.default_rng(0), 300)
    sampler, image = Importance(lookahead=1, sensitivity=sensitivity), np.zeros(300, np.int64)
    outside = np.isin(faults.layer, wide)
    assert outside.any()
    score = sampler.scores(bench, image, faults, no_past())
    assert (score[outside] == sampler.unsolved).all()
    assert not (score[~outside] == sampler.unsolved).any()


def test_an_unknown_sensitivity_is_refused() -> None:
    with pytest.raises(BadConfig, match="sensitivity='slope'; allowed: 'gradient' or 'finite-difference'"):
        Importance(sensitivity="slope")  # type: ignore[arg-type]


@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
def test_a_manifest_says_which_sensitivity_made_the_scores(digits: Any, sensitivity: Sensitivity) -> None:
    values = {"model": digits.path, "inputs": digits.data, "limit": 2, "sensitivity": sensitivity}
    assert make_config(values, "test").campaign().manifest()["sampler"]["sensitivity"] == sensitivity
