"""A fixed set of damaged and hostile files: each runs or is refused with one clear error, in time and memory.

tools/fuzz does the same for thousands.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from forked import GOOD, verdicts
from subjects import Fuzz

from emulator.errors import EmulatorError

SEEDS = range(200)


@pytest.fixture(scope="module")
def fuzz() -> Fuzz:
    subject = Fuzz()
    subject.warm()
    return subject


def test_damaged_files_run_or_are_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    found = list(verdicts(fuzz.cases(SEEDS), tmp_path, EmulatorError))
    assert len(found) == len(SEEDS)
    bad = [
        f"{v.kind} after {v.seconds:.1f} s: {v.case.name}: {v.detail}" for v in found if v.kind not in GOOD
    ]
    assert not bad, "\n".join(bad)


def test_the_harness_sees_crashes_hangs_memory_and_stray_errors(tmp_path: Path) -> None:
    """Its own check: what each way of going wrong is called."""
    from harness_checks import CASES

    found = {v.case.name: v.kind for v in verdicts(CASES, tmp_path, EmulatorError)}
    assert found == {case.name: case.name for case in CASES}
