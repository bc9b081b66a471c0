"""Compiled kernels are never those of another state of the source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import emulator
from emulator.instructions import available

PROBE = """
import numpy as np
from emulator.gemm import requantise
print(int(requantise(np.int32(5), np.float32(1), 0, -128, 127)))
"""


def test_a_change_in_a_called_kernel_reaches_its_cached_callers(tmp_path: Path) -> None:
    shutil.copytree(
        Path(emulator.__file__).parent, tmp_path / "emulator", ignore=shutil.ignore_patterns("__pycache__")
    )
    gemm = tmp_path / "emulator" / "gemm.py"
    assert _run(tmp_path) == "5"
    # round_scaled moves to a file of its own: only that file changes, not the one whose kernels call it.
    text = gemm.read_text()
    start, end = text.index("@kernel\ndef round_scaled"), text.index("@kernel\ndef requantise")
    head = "import numpy as np\nfrom emulator.jit import Int, Real, kernel\n\n\n"
    rounding = tmp_path / "emulator" / "rounding.py"
    rounding.write_text(head + text[start:end])
    gemm.write_text(text[:start] + "from emulator.rounding import round_scaled\n\n\n" + text[end:])
    assert _run(tmp_path) == "5"
    rounding.write_text(rounding.read_text().replace("* scale)", "* scale) + 1"))
    assert _run(tmp_path) == "6"


SCRIPT = """
import numpy as np
from emulator import simd
from emulator.jit import kernel

@kernel
def words():
    return simd.packed_words(1, 4, 1, 4)

print(simd.CHOSEN.name, words() == simd.packed_words(1, 4, 1, 4))
"""


def test_kernels_of_a_script_are_not_those_of_other_instructions(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for name in (*available(), *available()):
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"EMULATOR_SIMD": name, "PYTHONPATH": str(Path(emulator.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [name, "True"]


def _run(folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {
        "PYTHONPATH": str(folder)
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
