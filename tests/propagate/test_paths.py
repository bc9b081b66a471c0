"""Sparse propagation on every choice of instructions: the networks of `test_delta.py`, in a process each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.instructions import CHOSEN, available


@pytest.mark.parametrize("name", [name for name in available() if name != CHOSEN.name])
def test_every_path_propagates_as_a_full_recomputation(name: str) -> None:
    tests = str(Path(__file__).with_name("test_delta.py"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            tests,
            "-k",
            "full_recomputation or window or trace",
            "-m",
            "not slow",
        ],
        env=os.environ | {"EMULATOR_SIMD": name},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
