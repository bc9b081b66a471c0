"""Estimates and stop rules go by the order of chunks, not by when they are finished."""

from __future__ import annotations

import numpy as np

from emulator.campaign.in_order import ChunkSummary, InOrder
from emulator.sampling.estimators import Tally


def test_a_fault_drawn_again_is_no_further_critical_one() -> None:
    assert critical_ones(named=True) == (3, 5)


def test_names_of_critical_faults_are_kept_where_they_count_only() -> None:
    assert critical_ones(named=False) == (0, 5)


def summary_of(names: list[str]) -> ChunkSummary:
    """Each trial critical."""
    critical = np.array(names, object)
    n = len(critical)
    return ChunkSummary(
        sdc1=np.ones(n, bool), weight=np.ones(n), sites=np.ones(n, int), covered=n, critical=critical
    )


def critical_ones(named: bool) -> tuple[int, int]:
    """Distinct critical faults, and trials, after three chunks."""
    in_order = InOrder(Tally(), named=named)
    for chunk, names in enumerate((["a", "b"], ["a"], ["c", "c"])):
        (estimate,) = (e for _, e in in_order.add(chunk, summary_of(names)))
    standing = in_order.standing(estimate, seconds=0.0)
    return standing.critical, standing.trials


def test_a_chunk_that_is_early_waits_for_those_before_it() -> None:
    in_order = InOrder(Tally(), named=False)
    assert list(in_order.add(1, summary_of(["b"]))) == []
    assert [(chunk, estimate.n) for chunk, estimate in in_order.add(0, summary_of(["a"]))] == [(0, 1), (1, 2)]
