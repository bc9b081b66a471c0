"""A chance fitted on trials: used where it would draw better than the crossing, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emulator.sensitivity.crossing import crossing, preference_of
from emulator.sensitivity.fitted import learnt
from emulator.sensitivity.outlook import Outlook, outlook_at

FAULTS = 20_000


def outlooks(rng: np.random.Generator) -> Outlook:
    movement = rng.exponential(30, FAULTS).astype(np.float32)
    margin = np.full(FAULTS, 10, np.float32)
    return Outlook(
        layer=rng.integers(0, 4, FAULTS),
        margin=margin,
        left=(margin - movement * rng.uniform(-0.3, 0.4, FAULTS)).astype(np.float32),
        movement=movement,
        changed=np.ones(FAULTS, np.int64),
        alive=rng.random(FAULTS) < 0.8,
        foreseen=np.ones(FAULTS, np.bool_),
    )


def drawn(outlook: Outlook, chance: Any, rng: np.random.Generator) -> Any:
    """Outcomes of all, and 8,000 of them drawn by the crossing: which, and their weights."""
    critical = outlook.alive & (rng.random(FAULTS) < chance)
    share = 0.1 / FAULTS + 0.9 * (h := preference_of(crossing(outlook))) / h.sum()
    rows = rng.choice(FAULTS, 8000, p=share)
    return critical, rows, 1 / (FAULTS * share[rows])


def test_what_depends_on_the_layer_is_learnt() -> None:
    rng = np.random.default_rng(1)
    outlook = outlooks(rng)
    chance = np.where(outlook.layer == 2, crossing(outlook), 0.002)
    critical, rows, weight = drawn(outlook, chance, rng)
    model = learnt(outlook_at(outlook, rows), critical[rows], weight)
    assert model is not None
    score = model.score(outlook)
    assert ((score >= 0) & (score <= 1)).all() and (score[~outlook.alive] == 0).all()
    second_moment = [(critical / (h := preference_of(s))).sum() * h.sum() for s in (score, crossing(outlook))]
    assert second_moment[0] < 0.8 * second_moment[1]


@pytest.mark.parametrize("seed", range(3))
def test_where_the_crossing_is_right_nothing_replaces_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outlook = outlooks(rng)
    # Certain where the crossing says so: a tree of forty faults a leaf is never so sharp.
    critical, rows, weight = drawn(outlook, (outlook.left < 0).astype(float), rng)
    sharp = outlook._replace(left=np.where(outlook.left < 0, -1e3, 1e3).astype(np.float32))
    assert learnt(outlook_at(sharp, rows), critical[rows], weight) is None


def test_too_few_critical_faults_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    outlook = outlooks(rng)
    critical = np.arange(FAULTS) < 30
    assert learnt(outlook, critical & outlook.alive, np.ones(FAULTS)) is None
    assert learnt(outlook, np.ones(FAULTS, np.bool_), np.ones(FAULTS)) is None
