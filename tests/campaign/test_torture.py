"""Campaigns that are killed, cut short by a full disk and damaged: always resumed, to what an undisturbed serial run
finds, nothing counted twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hurts
import pytest
from torture import SUBJECTS, Hurt, Reference, reference, tortured

from emulator.cli.main import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def references(folder: Path) -> list[Reference]:
    """After a run of each in this process, so that those forked from it find everything imported and compiled."""
    for subject in SUBJECTS:
        with pytest.raises(SystemExit) as end:
            app(subject.arguments(folder / f"warm-{subject.name}", subject.ends[-1], workers=1))
        assert not end.value.code
    return [reference(subject, folder) for subject in SUBJECTS]


def hold(
    seeds: Sequence[int], chosen: tuple[Hurt, ...], references: list[Reference], tmp_path: Path, **given: bool
) -> None:
    found = tortured(seeds, chosen, references, tmp_path, **given)
    wrong = [verdict for verdict in found if verdict.wrong]
    assert not wrong, "\n".join(f"{verdict!r}" for verdict in wrong)
    assert sorted(verdict.seed for verdict in found) == list(seeds)


@pytest.mark.parametrize(
    "hurt",
    [
        hurts.killed_at_an_operation,
        hurts.killed_in_a_write,
        hurts.worker_killed,
        hurts.full_disk,
        hurts.rival,
        hurts.part_damaged,
        hurts.manifest_damaged,
    ],
)
def test_a_hurt_campaign_resumes(hurt: Hurt, references: list[Reference], tmp_path: Path) -> None:
    """One of each kind, serial and, on a disk of its own, with two workers."""
    hold((0, 13), (hurt,), references, tmp_path)


@pytest.mark.slow
def test_two_hundred_hurt_campaigns_resume(references: list[Reference], tmp_path: Path) -> None:
    hold(range(100, 300), hurts.HURTS, references, tmp_path)


@pytest.mark.slow
def test_killed_commands_resume(references: list[Reference], tmp_path: Path) -> None:
    """As users start them, workers and all in interpreters of their own."""
    chosen = (hurts.killed_at_a_moment, hurts.worker_killed)
    hold(range(4, 12), chosen, references, tmp_path, fresh=True)
