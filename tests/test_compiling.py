"""Whoever waits for kernels to be compiled is told so, once; nobody else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numba

from emulator.bundled import digits
from emulator.compiling import telling_of_compiling


def test_compiling_is_told_once_and_only_where_it_happens() -> None:
    told: list[str] = []
    first, second = numba.njit(lambda x: x + 1), numba.njit(lambda x: x + 2)
    with telling_of_compiling(lambda: told.append("now")):
        assert (first(1), second(1)) == (2, 3)
    assert told == ["now"]
    with telling_of_compiling(lambda: told.append("again")):
        assert (first(1), second(1)) == (2, 3)
    numba.njit(lambda x: x + 3)(1)
    assert told == ["now"]


def test_what_was_compiled_once_comes_from_the_cache(tmp_path: Path) -> None:
    """In another process; with all that a command may call."""
    bundle = digits()
    fault = "layer=conv1 register=pe_b row=3 col=2 cycle=40 bit=7"
    command = [sys.executable, "-m", "emulator", "inject", bundle.model, "--inputs", bundle.inputs]
    command += ["--fault", fault, "--vcd", tmp_path / "a.vcd", "--engine", "cycle"]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stderr for _ in range(2)]
    assert "waveform" in said[1] and "compiling" not in said[1]
