"""Sites in every image: counts against a table made one image at a time, and giving up loses nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emulator.campaign.trial import judge_faults
from emulator.errors import BadData
from emulator.faults.space import FaultSpace
from emulator.harden.answers import Answers
from emulator.harden.every_image import inject_everywhere
from emulator.sampling.workbench import Workbench


def some_sites(table: Any, count: int = 3000) -> Any:
    """Columns of the table, half of them of sites that cost something."""
    rng = np.random.default_rng(3)
    costly = np.flatnonzero(table.lost > 0)
    return np.concatenate([rng.choice(costly, count // 2), rng.integers(0, len(table.sites), count // 2)])


@pytest.mark.parametrize("needed", [1, 2, 4, 9])
def test_what_reaches_the_drop_and_what_it_costs_is_exact(table: Any, needed: int) -> None:
    column = some_sites(table)
    found = inject_everywhere(table.bench, table.answers, table.faults[column], needed)
    truth = table.lost[column]
    np.testing.assert_array_equal(found.reached, truth >= needed)
    np.testing.assert_array_equal(found.lost[found.reached], truth[found.reached])
    assert (truth >= needed).any() == found.reached.any()


def test_the_table_has_what_the_tests_are_about(table: Any) -> None:
    """Wrong images that a fault puts right, and faults at every threshold."""
    wrong = ~table.answers.right
    assert wrong.sum() == 2
    assert (table.top1[wrong] == table.answers.label[wrong][:, np.newaxis]).any()
    assert [int((table.lost >= needed).sum()) > 0 for needed in (1, 2, 4, 9)] == [True] * 4


def test_a_site_is_given_up_only_when_it_cannot_reach_the_drop(table: Any) -> None:
    """All harmless but one: struck until too few images are left, and the one to the end."""
    harmless = np.flatnonzero((table.top1 == table.answers.fault_free[:, np.newaxis]).all(axis=0))[:9]
    strongest = int(table.lost.argmax())
    column = np.append(harmless, strongest)
    needed, right = 3, int(table.answers.right.sum())
    found = inject_everywhere(table.bench, table.answers, table.faults[column], needed)
    # A harmless site is out once fewer than `needed` right images are left.
    assert found.injections == 10 * (right - needed + 1) + (len(table.answers) - (right - needed + 1))
    assert found.reached.tolist() == [False] * 9 + [True]


def test_where_nothing_can_reach_the_drop_the_images_left_are_saved(table: Any) -> None:
    harmless = np.flatnonzero((table.top1 == table.answers.fault_free[:, np.newaxis]).all(axis=0))[:9]
    right = int(table.answers.right.sum())
    found = inject_everywhere(table.bench, table.answers, table.faults[harmless], right)
    assert found.injections == 9
    assert not found.reached.any()


def test_a_hang_is_no_right_answer(digits: Any) -> None:
    space = FaultSpace(digits.network, digits.array, registers=["seq_active"], layers=["fc"])
    bench = Workbench(digits.network, digits.array, space, digits.inputs[:2])
    faults = space.draw(np.random.default_rng(0), 4)
    due = np.stack([judge_faults(bench, image, faults)["due"] for image in range(2)]).all(axis=0)
    assert due.any() and not due.all()
    found = inject_everywhere(bench, Answers.of(bench), faults, 1)
    assert (found.lost[due] == 2).all()


def test_without_labels_the_fault_free_answers_are_right(table: Any) -> None:
    answers = Answers.of(table.bench)
    assert answers.accuracy.value == 1
    np.testing.assert_array_equal(
        answers.fault_free, [table.bench.golden.logits(table.bench.inference(i)).argmax() for i in range(20)]
    )
    with pytest.raises(BadData, match="one an image"):
        Answers.of(table.bench, np.zeros(3, np.int64))
