"""Exhaustive campaigns against every site struck alone, and some followed alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.array.fit import Fit, RawFit
from emulator.campaign.config import make_config
from emulator.campaign.inputs import random_samples
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign, Progress
from emulator.campaign.trial import judge_faults
from emulator.errors import BadConfig
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strikes import errors_of
from emulator.graph.load import load
from emulator.propagate.classes import Changes, Classes
from emulator.report.figures.convergence import convergence
from emulator.report.figures.pe_map import pe_heat_map
from emulator.report.html import render_report
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.site_classes import classes_of
from emulator.sampling.stopping import max_trials
from emulator.sampling.workbench import Workbench

# Sums, operands, and control bits of which some need the cycle engine, some hang.
SMALL = (
    "pe_a",
    "pe_b",
    "pe_c1",
    "pe_d",
    "buf_a",
    "deskew_data",
    "write_sum",
    "requant_acc",
    "out_valid",
    "write_valid",
)
IMAGES = 2


def campaign(digits: Any, registers: tuple[str, ...] = SMALL, **changes: Any) -> Campaign:
    space = FaultSpace(
        digits.network, digits.array, registers=registers, layers=[len(digits.network.graph.layers) - 1]
    )
    settings = {"inputs": digits.data, "limit": IMAGES, "sampler": Exhaustive(), **changes}
    return Campaign(digits.network, digits.array, space, **settings)


def one_by_one(planned: Campaign) -> Counter[tuple[str, str, bool, bool]]:
    """(register, stage, SDC-1, DUE) of every live site of every image, and how many there are of each."""
    bench = Workbench(planned.network, planned.array, planned.space, planned.samples.inputs)
    names = np.array([s.register.name for s in planned.space.strata])
    where = np.repeat(names, [s.live for s in planned.space.strata])
    found: Counter[tuple[str, str, bool, bool]] = Counter()
    for image in range(IMAGES):
        columns = judge_faults(bench, image, planned.space.live_faults(np.arange(planned.space.live)))
        parts = (columns[name].tolist() for name in ("masked_at", "sdc1", "due"))
        found.update(zip(where.tolist(), *parts, strict=True))
    return found


def test_classes_count_what_every_site_does(digits: Any, tmp_path: Path) -> None:
    planned = campaign(digits)
    results = planned.collect(tmp_path, workers=1)
    counted: Counter[tuple[str, str, bool, bool]] = Counter()
    for row in results.trials.itertuples():
        counted[row.register, row.masked_at, row.sdc1, row.due] += row.class_size
    wanted = one_by_one(planned)
    assert counted == wanted
    assert any(due for *_, due in wanted) and any(sdc1 for *_, sdc1, _ in wanted)
    assert len(results) < wanted.total() / 4

    events = sum(count for (_, _, sdc1, _), count in wanted.items() if sdc1)
    rate = results.rate()
    assert rate.value == rate.low == rate.high == events / wanted.total()
    assert (rate.n, rate.method) == (wanted.total(), "census")
    frame = results.summary(by="register").set_index("register")
    for register, row in frame.iterrows():
        of = {key: count for key, count in wanted.items() if key[0] == register}
        assert row["value"] == row["low"] == row["high"]
        assert row["value"] * sum(of.values()) == pytest.approx(sum(c for key, c in of.items() if key[2]))
    stages = results.masked()
    for stage in ("array", "requant", "clamp", "network", "none"):
        of_stage = sum(count for (_, at, *_), count in wanted.items() if at == stage)
        assert stages[stage].value == pytest.approx(results.live_share * of_stage / wanted.total())


def test_two_workers_and_an_interruption_change_no_byte(digits: Any, tmp_path: Path) -> None:
    registers = ("pe_a", "pe_b", "accumulator")
    seen: list[Progress] = []
    campaign(digits, registers).collect(tmp_path / "one", workers=1, progress=seen.append)
    campaign(digits, registers).collect(tmp_path / "two", workers=2)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "trials").iterdir()}
        for name in ("one", "two")
    )
    assert one == two and len(one) == IMAGES
    assert all(a.estimate.low <= b.estimate.low for a, b in pairwise(seen))
    assert all(a.estimate.high >= b.estimate.high for a, b in pairwise(seen))
    (tmp_path / "two" / "trials" / "part-000001.parquet").unlink()
    part = Results.open(tmp_path / "two").rate()
    assert part.low < part.high
    again = campaign(digits, registers).collect(tmp_path / "two", workers=1)
    assert (tmp_path / "two" / "trials" / "part-000001.parquet").read_bytes() == one["part-000001.parquet"]
    assert part.low <= again.rate().value <= part.high


def key_of(changes: Changes, c: int) -> tuple[Any, ...]:
    part = slice(changes.ptr[c], changes.ptr[c + 1])
    return (
        int(changes.op[c]),
        int(changes.stage[c]),
        changes.element[part].tobytes(),
        changes.value[part].tobytes(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("register", ["accumulator", "pe_b"])
def test_fifty_thousand_random_sites_have_the_outcome_of_their_class(fashion: Any, register: str) -> None:
    """Each followed alone, without classes."""
    space = FaultSpace(fashion.network, fashion.array, registers=[register])
    bench = Workbench(fashion.network, fashion.array, space, fashion.inputs[:1])
    image, propagator = bench.inference(0), bench.propagator
    outcome = {}
    for stratum in space.strata:
        found = classes_of(bench, 0, [stratum])
        assert found.sites.sum() == stratum.live
        effects = propagator.run_classes(image, found.changes)
        for c in range(len(found.sites)):
            outcome[key_of(found.changes, c)] = effects.logits[c].tobytes(), int(effects.stage[c])
    faults = space.draw(np.random.default_rng(5), 50_000)
    errors = strike(bench.golden, image, bench.array, faults).errors
    for f in range(len(faults)):
        alone, layer = errors_of(errors, np.array([f])), faults.layer[f : f + 1]
        single = Classes(bench.golden.program, image)
        single.add(layer, alone)
        effect = propagator.run_classes(image, single.changes)
        key = key_of(single.changes, 0)
        assert outcome[key] == (effect.logits[0].tobytes(), int(effect.stage[0]))


def test_a_report_shows_what_classes_can(digits: Any, tmp_path: Path) -> None:
    results = campaign(digits, ("accumulator",)).collect(tmp_path, workers=1)
    page = render_report(results)
    assert "By register" in page and "By struck bit" not in page and "Convergence" not in page
    assert "counted, every live site" in page and "95 %" not in page and "ESS" not in page
    assert "all" in str(results.rate()) and "sites" in str(results.rate())
    assert results.to_json()["by_bit"] == {}


@pytest.mark.parametrize("key", ["bit", "row", "col", "engine"])
def test_what_a_class_is_spread_over_is_no_group(digits: Any, tmp_path: Path, key: str) -> None:
    results = campaign(digits, ("requant_acc",)).collect(tmp_path, workers=1)
    with pytest.raises(BadConfig, match=r"a class of sites that differ in it; allowed: layer, register"):
        results.by(key)
    with pytest.raises(BadConfig, match="ranks nothing"):
        results.precision_at(10)


def test_a_stop_rule_is_refused(digits: Any) -> None:
    with pytest.raises(BadConfig, match="goes through every site; allowed: no stop rule"):
        campaign(digits, stop=max_trials(100))
    values = {"model": digits.path, "inputs": digits.data, "sampler": "exhaustive", "trials": 100}
    with pytest.raises(BadConfig, match="it has no trials"):
        make_config(values, "test").campaign()
    with pytest.raises(BadConfig, match="has no alpha"):
        make_config({**values, "trials": None, "alpha": 0.5}, "test").campaign()


def test_layers_outside_the_kernels_are_refused(digits: Any) -> None:
    network = load(Path(__file__).parents[1] / "data/models/sklearn_mlp_dynamic.onnx")
    space = FaultSpace(network, digits.array, registers=["accumulator"])
    samples = random_samples(network.graph, 1, 0)
    with pytest.raises(BadConfig, match="outside the kernels; allowed where sites are counted"):
        Campaign(network, digits.array, space, inputs=samples, sampler=Exhaustive())


def test_an_unfinished_campaign_says_what_is_open(digits: Any, tmp_path: Path) -> None:
    whole = campaign(digits, ("accumulator",)).collect(tmp_path, workers=1)
    by_image, masked = whole.by("input_id"), whole.by("masked_at")
    assert len(by_image) == IMAGES and len(masked) > 1 and not whole.incomplete
    assert (by_image["low"] == by_image["high"]).all() and (
        by_image["n"] == whole.manifest["space"]["live"]
    ).all()
    (tmp_path / "trials" / "part-000001.parquet").unlink()
    part = Results.open(tmp_path)
    assert part.incomplete
    first = part.by("input_id")
    assert first["low"].tolist() == first["high"].tolist() == by_image["value"].tolist()[:1]
    assert part.by("layer")["low"].item() < part.by("layer")["high"].item()
    with pytest.raises(BadConfig, match=r"until all are judged; allowed here: layer, register, input_id"):
        part.by("masked_at")
    page = render_report(part)
    assert "certainly between" in page and "not all live sites are judged yet" in page
    assert "counted, every live site" not in page and "Every live site counted" not in page


def test_the_fit_of_an_unfinished_campaign_has_room_for_all_that_is_open(digits: Any, tmp_path: Path) -> None:
    """What is left may all be critical or nothing, in each register: nothing there evens out."""
    rates = {"accumulator": 5.0, "pe_b": 70.0}
    raw = RawFit(by_register=tuple(rates.items()))
    exact = campaign(digits, tuple(rates)).collect(tmp_path, workers=1).fit(raw)
    (tmp_path / "trials" / "part-000001.parquet").unlink()
    part = Results.open(tmp_path)

    def fit(**raw: float) -> Fit:
        return part.fit(RawFit(by_register=tuple({**dict.fromkeys(rates, 0.0), **raw}.items())))

    both, each = fit(**rates), [fit(**{name: rate}) for name, rate in rates.items()]
    for end in range(3):
        assert both[end] == pytest.approx(sum(one[end] for one in each))
    assert both.low < exact.value < both.high and exact.low == pytest.approx(exact.high)


def test_what_converges_is_no_exhaustive_campaign(digits: Any, tmp_path: Path) -> None:
    results = campaign(digits, ("pe_b",)).collect(tmp_path, workers=1)
    for draw in (convergence, pe_heat_map, lambda r: render_report(r, compare=r)):
        with pytest.raises(BadConfig, match=r"go(es)? through every site"):
            draw(results)
