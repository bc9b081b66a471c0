"""Accuracy against the bit-error rate: every inference as the cycle engine runs it, the statistics as plain formulas
have them, the curve at small rates as single faults do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emulator as emu
from emulator.array.bits import wrap_signed
from emulator.campaign.error_rate_store import ErrorRateStore
from emulator.campaign.error_rates import BLOCK, HUNG, Curve, ErrorRates, Point
from emulator.campaign.executors import opener_of
from emulator.campaign.inputs import Samples, load_samples
from emulator.errors import BadConfig, BadData
from emulator.faults.bit_errors import BitErrors
from emulator.faults.fault import Fault
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.propagate.permanent import run_struck
from emulator.sampling.rng import rng_for

IMAGES = 20


def samples_of(digits: Any, labelled: bool = True) -> Samples:
    samples = load_samples(digits.data, digits.network.graph, IMAGES)
    return samples if labelled else replace(samples, labels=None)


def sweep_of(digits: Any, *live: float, registers: str = "accumulator,pe_b", **given: Any) -> ErrorRates:
    """live: expected upsets of live sites."""
    space = FaultSpace(digits.network, digits.array, registers=registers.split(","))
    curve = Curve(name=registers, space=space, rates=tuple(x / space.live for x in live))
    settings = {"samples": samples_of(digits), "trials": 3 * IMAGES, **given}
    return ErrorRates(network=digits.network, curves=[curve], **settings)


def points_of(sweep: ErrorRates, workers: int = 1, **given: Any) -> list[Point]:
    return [point for _, point in sweep.points(sweep.answers(), opener_of(workers, None), **given)]


# ---- several upsets are what the hardware makes of them


@pytest.mark.parametrize("registers", ["accumulator,pe_b", "pe_a,pe_c1,skew_a", "accumulator,pe_valid,pe_b"])
def test_every_inference_is_that_of_the_cycle_engine(digits: Any, registers: str) -> None:
    sweep = sweep_of(digits, 12.0, registers=registers, trials=1)
    (curve,) = sweep.curves
    (rate,) = curve.rates
    rng, clean, struck = rng_for(sweep.seed, 0), sweep.answers(), []
    for image in range(IMAGES):
        upsets = BitErrors(curve.space).draw(rate, rng)
        assert max(map(len, upsets.values())) > 1
        run = run_struck(digits.golden, digits.inputs[image], digits.array, upsets, engine="cycle")
        struck.append(HUNG if run.hang is not None else digits.golden.top1(run.inference))
    (found,) = points_of(sweep)
    assert found == sweep.point(curve, rate, np.array(struck), clean)
    assert found.sdc1.value > 0


def together(digits: Any, *faults: Fault) -> Any:
    """The errors of the accumulators (m, n) with all of them in one inference, in one layer."""
    layer, image = faults[0].layer, digits.inference(0)
    run = run_struck(digits.golden, digits.inputs[0], digits.array, {layer: [f.upset for f in faults]})
    return digits.golden.accumulator(run.inference, layer) - digits.golden.accumulator(image, layer)


@pytest.mark.parametrize("register", ["pe_b", "accumulator"])
def test_two_bits_of_one_word_at_once_are_one_mask(digits: Any, register: str) -> None:
    space = FaultSpace(digits.network, digits.array, registers=[register])
    bits = space.strata[0].register.bits
    index = np.random.default_rng(4).integers(0, space.live, 60)
    faults, seen = space.live_faults(index), 0
    alone = strike(digits.golden, digits.inference(0), digits.array, faults)
    for i, upset in enumerate(faults.upsets(digits.array)):
        if upset.row == 0:
            continue
        first = Fault(layer=int(faults.layer[i]), upset=upset)
        other = (upset.bits[0] + 3) % bits
        errors = together(digits, first, replace(first, upset=replace(upset, bits=(other,))))
        before, mask = int(alone.before[i]), 1 << upset.bits[0] | 1 << other
        expected = wrap_signed(np.int64(before ^ mask), bits) - before
        assert errors[errors != 0].tolist() == [wrap_signed(expected, 32)]
        seen += 1
    assert seen > 30


def test_a_flip_of_a_sum_that_is_wrong_already_starts_from_there(digits: Any) -> None:
    space = FaultSpace(digits.network, digits.array, registers=["accumulator", "pe_b"], layers=["conv1"])
    faults = space.draw(np.random.default_rng(5), 6000)
    found = strike(digits.golden, digits.inference(0), digits.array, faults)
    one = np.flatnonzero(np.diff(found.ptr) == 1)
    at: dict[str, dict[tuple[int, int], Any]] = {"pe_b": {}, "accumulator": {}}
    for i, upset in zip(one.tolist(), faults[one].upsets(digits.array), strict=True):
        place = int(found.m[found.ptr[i]]), int(found.n[found.ptr[i]])
        at[upset.register].setdefault(place, (i, upset))
    met = 0
    for place in at["pe_b"].keys() & at["accumulator"].keys():
        (i, passing), (j, stored) = at["pe_b"][place], at["accumulator"][place]
        # The partial sum is added long before the accumulator is struck, in the same fold.
        if stored.cycle < passing.cycle + 40 or faults.fold[i] != faults.fold[j]:
            continue
        delta = int(found.delta[found.ptr[i]])
        wrong = int(found.before[j]) + delta
        layer = int(faults.layer[i])
        errors = together(digits, Fault(layer=layer, upset=passing), Fault(layer=layer, upset=stored))
        # What the second flip makes of the wrong sum; it may also mend it.
        expected = np.zeros_like(errors)
        expected[place] = wrap_signed(delta + np.int64(wrong ^ (1 << stored.bits[0])) - wrong, 32)
        assert np.array_equal(errors, expected)
        met += 1
    assert met > 3


# ---- statistics


def test_a_point_is_what_the_answers_say(digits: Any) -> None:
    sweep = sweep_of(digits, 0.5)
    (curve,), labels = sweep.curves, sweep.samples.labels
    (rate,), struck = curve.rates, -np.expm1(-0.5)
    clean = labels.copy()
    clean[:2] = (labels[:2] + 1) % 10  # two images are wrong without upsets
    answers = np.tile(clean, sweep.passes)
    answers[[0, IMAGES]] = labels[0]  # an upset that mends an answer is an SDC all the same
    answers[[5, 6, 2 * IMAGES + 5]] = (labels[[5, 6, 5]] + 1) % 10
    answers[7] = HUNG
    point, n = sweep.point(curve, rate, answers, clean), 3 * IMAGES
    assert point.sdc1.value == pytest.approx(struck * 5 / n, rel=1e-6)
    assert point.due.value == pytest.approx(struck * 1 / n, rel=1e-6)
    right = (np.tile(clean == labels, 3).sum() + 2 - 3 - 1) / n
    assert point.accuracy.value == pytest.approx((1 - struck) * 0.9 + struck * right, rel=1e-6)
    assert point.live_upsets == pytest.approx(0.5)
    assert point.upsets == pytest.approx(0.5 / curve.space.live_share)
    assert {e.n for e in (point.accuracy, point.sdc1, point.due)} == {n}
    unlabelled = replace(sweep, samples=samples_of(digits, labelled=False)).point(curve, rate, answers, clean)
    assert unlabelled.accuracy.value == pytest.approx(1 - point.sdc1.value - point.due.value)
    assert Point.from_json(point.to_json()) == point


def test_intervals_cover_the_images_too(digits: Any) -> None:
    """Images are drawn from many, each with its own chance to be right, and upsets on each of them."""
    sweep = sweep_of(digits, 0.7)
    (curve,), struck = sweep.curves, -np.expm1(-0.7)
    (rate,), labels = curve.rates, sweep.samples.labels
    rng, covered, repeats = np.random.default_rng(6), 0, 400
    for _ in range(repeats):
        fragile = rng.beta(
            0.6, 1.2, IMAGES
        )  # a third of the struck answers are lost, of some images nearly all
        clean = np.where(rng.random(IMAGES) < 0.85, labels, labels + 1)
        lost = rng.random((sweep.passes, IMAGES)) < fragile
        answers = np.where(lost, labels + 2, clean).reshape(-1)
        found = sweep.point(curve, rate, answers, clean).accuracy
        truth = 0.85 * (1 - struck + struck * (1 - 1 / 3))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / repeats <= 0.99


def test_at_a_rate_of_nearly_nothing_nothing_happens(digits: Any) -> None:
    sweep = sweep_of(digits, 1e-9)
    (found,) = points_of(sweep)
    clean = sweep.without_upsets(sweep.answers())
    assert found.sdc1.high <= 1e-9
    assert found.accuracy.value == pytest.approx(clean.value)
    # What is left is the choice of images.
    assert found.accuracy.low == pytest.approx(clean.low, abs=2e-3)
    (alike,) = points_of(sweep_of(digits, 1e-9, samples=samples_of(digits, labelled=False)))
    assert 1 - 1e-9 <= alike.accuracy.low <= alike.accuracy.value <= 1


@pytest.mark.slow
def test_the_slope_at_small_rates_is_the_rate_of_single_faults(digits: Any, tmp_path: Path) -> None:
    sweep = sweep_of(digits, 1e-6, 0.02, registers="pe_b", trials=3000)
    (curve,) = sweep.curves
    exhaustive = emu.Campaign(
        digits.network, digits.array, curve.space, inputs=sweep.samples, sampler=emu.Exhaustive()
    )
    exact = exhaustive.collect(tmp_path / "runs", workers=1).rate()
    assert exact.low == exact.high > 0
    for point in points_of(sweep):
        # Of SDC-1 per expected live upset; two in one inference are 1 % of those at the larger rate.
        slope = point.sdc1.value / point.live_upsets
        error = (exact.value * (1 - exact.value) / 3000) ** 0.5
        assert abs(slope - exact.value) < 4 * error + 0.01 * exact.value
        assert error < exact.value / 3


@pytest.mark.slow
def test_the_curve_is_that_of_flips_of_each_bit_by_itself(digits: Any) -> None:
    """Nothing is conditioned on here: every site of a small space is asked whether it flips."""
    space = FaultSpace(digits.network, digits.array, registers=["seq_act_on", "seq_row"], layers=["conv1"])
    rate, rng, runs = 1.2 / space.size, np.random.default_rng(8), 1500
    curve = Curve(name="control", space=space, rates=(rate,))
    sweep = ErrorRates(network=digits.network, samples=samples_of(digits), curves=[curve], trials=runs)
    clean, (found,) = sweep.answers(), points_of(sweep)
    right = 0
    for run in range(runs):
        image, sites = run % IMAGES, np.flatnonzero(rng.random(space.size) < rate)
        answer = clean[image]
        if len(sites):
            upsets = [space.site(int(site)).upset for site in sites]
            struck = run_struck(
                digits.golden, digits.inputs[image], digits.array, {0: upsets}, engine="cycle"
            )
            answer = HUNG if struck.hang is not None else digits.golden.top1(struck.inference)
        right += answer == sweep.samples.labels[image]
    share = right / runs
    assert found.accuracy.value < 0.9
    assert abs(share - found.accuracy.value) < 4 * (2 * share * (1 - share) / runs) ** 0.5


# ---- the same points again


def test_a_point_depends_on_nothing_but_itself(digits: Any) -> None:
    sweep = sweep_of(digits, 1.0, 20.0, registers="pe_b")
    first, second = points_of(sweep)
    assert 3 * IMAGES > BLOCK  # more than one chunk
    assert points_of(sweep, workers=2) == [first, second]
    assert points_of(sweep_of(digits, 20.0, registers="pe_b")) == [second]
    (curve,) = sweep.curves
    assert points_of(sweep, done={(curve.name, curve.rates[0])}) == [second]
    assert points_of(sweep_of(digits, 20.0, registers="pe_b", seed=1)) != [second]


def test_finished_points_are_kept_and_found_again(digits: Any, tmp_path: Path) -> None:
    sweep, path = sweep_of(digits, 1.0, 30.0, 100.0), tmp_path / "ber.json"
    clean = sweep.answers()

    def store(of: ErrorRates = sweep) -> ErrorRateStore:
        return ErrorRateStore(of, of.without_upsets(clean), path)

    first = store()
    points = sweep.points(clean, None, first.done)
    first.add(*next(points))
    points.close()
    # As after kill -9: only the file is left.
    again = store()
    assert again.done == first.done and again.curves() == first.curves()
    rest = [again.add(curve, point) for curve, point in sweep.points(clean, None, again.done)]
    assert len(rest) == 2
    whole = store().curves()
    assert list(whole.values()) == [points_of(sweep)]
    # Fewer rates are asked for, and none is thrown away.
    (less,) = store(sweep_of(digits, 30.0)).curves().values()
    assert [point.live_upsets for point in less] == pytest.approx([30.0])
    # So is another curve.
    more = replace(sweep, curves=[*sweep.curves, replace(sweep.curves[0], name="again", rates=(1e-9,))])
    assert store(more).curves()["again"] == [] and store(more).done == again.done
    written = path.read_bytes()
    for other in (sweep_of(digits, 1.0, seed=1), sweep_of(digits, 1.0, trials=7 * IMAGES)):
        with pytest.raises(BadConfig, match="another sweep"):
            store(other)
    spoilt = json.loads(written) | {"without_upsets": {"value": 0.5}}
    path.write_text(json.dumps(spoilt), encoding="utf-8")
    with pytest.raises(BadConfig, match="without_upsets"):
        store()
    # What follows from another sweep is no difference of its own.
    with pytest.raises(BadConfig, match="seed") as told:
        store(sweep_of(digits, 1.0, seed=1))
    assert "without_upsets" not in str(told.value)
    path.write_bytes(written)
    narrower = FaultSpace(digits.network, digits.array, registers=["accumulator"])
    renamed = replace(sweep, curves=[replace(sweep.curves[0], space=narrower, rates=(1e-9,))])
    with pytest.raises(BadConfig, match="registers"):
        store(renamed)
    assert path.read_bytes() == written
    for foreign in (b"{}", b"[1]", b"{"):
        path.write_bytes(foreign)
        with pytest.raises(BadData, match="Choose another -o"):
            store()


def test_what_can_not_be_swept_is_refused(digits: Any) -> None:
    sweep = sweep_of(digits, 1.0)
    (curve,) = sweep.curves
    with pytest.raises(BadConfig, match="different ones"):
        replace(sweep, curves=[curve, curve])
    with pytest.raises(BadConfig, match="2 images or more"):
        replace(sweep, samples=load_samples(digits.data, digits.network.graph, 1))
    with pytest.raises(BadConfig, match="one or more"):
        replace(sweep, curves=[replace(curve, rates=())])
    with pytest.raises(BadConfig, match="allowed: above 0, up to"):
        replace(sweep, curves=[replace(curve, rates=(0.1,))])
