"""AVF by bit position: sites counted one by one, rates summed by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.array.registers import register
from emulator.campaign.bit_avf import avf_by_bit
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
from emulator.sampling.stopping import max_trials

# One is narrower in row 0, one has a single bit, one is wide.
REGISTERS = ("pe_b", "pe_valid", "requant_acc")


@pytest.fixture(scope="module")
def results(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    space = FaultSpace(digits.network, digits.array, registers=REGISTERS)
    inputs, stop = digits.inputs[:3], max_trials(600)
    campaign = Campaign(digits.network, digits.array, space, inputs=inputs, stop=stop, seed=3)
    return campaign.collect(tmp_path_factory.mktemp("bits"), workers=1)


@pytest.fixture(scope="module")
def sites(digits: Any, results: Results) -> Counter[int]:
    """Register bits x cycles of each position, every bit looked at."""
    found: Counter[int] = Counter()
    for entry in results.manifest["space"]["breakdown"]:
        held = register(digits.array, entry["register"])
        cycles = entry["sites"] / held.total_bits
        for bit in held.place(np.arange(held.total_bits))[2].tolist():
            found[bit] += cycles
    return found


def test_each_is_the_weighted_share_of_the_trials_over_that_of_the_sites(
    results: Results, sites: Counter[int]
) -> None:
    found = avf_by_bit(results)
    assert found.keys() == sites.keys()
    assert results.trials["sdc1"].sum() > 20
    live = results.manifest["space"]["live"]
    for bit, estimate in found.items():
        weight = sum(
            np.exp(log_weight)
            for log_weight, bits, sdc1 in zip(
                results.trials["log_weight"], results.trials["bits"], results.trials["sdc1"], strict=True
            )
            if sdc1 and bits == 1 << bit
        )
        assert estimate.value == pytest.approx(weight / len(results) * live / sites[bit])
        assert estimate.low <= estimate.value <= estimate.high <= 1


def test_a_summary_by_bit_has_the_avf_of_each_position_and_its_part(
    results: Results, sites: Counter[int]
) -> None:
    frame = results.summary(by="bit").set_index("bit")
    struck = (results.column("bits")[:, None] >> np.arange(64) & 1).sum(axis=0)
    assert frame.index.tolist() == sorted(sites)
    for bit, e in avf_by_bit(results).items():
        row = frame.loc[bit]
        assert row[["avf", "avf_low", "avf_high"]].tolist() == [e.value, e.low, e.high]
        assert (row["sites"], row["n"]) == (sites[bit], struck[bit])
        assert (row["method"] == "no trials") == (struck[bit] == 0) == bool(np.isnan(row["value"]))
    events = results.weight * results.column("sdc1")
    top = results.column("bits") == 1 << 31
    assert frame.loc[31, "share"] == pytest.approx(events[top].sum() / events.sum())
    assert frame["share"].sum() == pytest.approx(1)


def test_the_positions_add_up_to_the_whole(results: Results, sites: Counter[int]) -> None:
    found = avf_by_bit(results)
    whole = sum(found[bit].value * count for bit, count in sites.items()) / sites.total()
    assert sites.total() == results.space_size
    assert whole == pytest.approx(results.population_rate().value)


def test_classes_of_sites_have_no_bit(results: Results) -> None:
    sampler = {"name": "exhaustive"}
    counted = replace(results, manifest={**results.manifest, "sampler": sampler}, directory=Path("a"))
    with pytest.raises(BadConfig, match="a is a campaign that goes through every site"):
        avf_by_bit(counted)
