"""Which path is taken, and that all paths compute the same."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from llvmlite.binding import get_host_cpu_name
from numba.core.codegen import get_host_cpu_features

import emulator
from emulator import instructions
from emulator.errors import BadConfig
from emulator.instructions import available, choose

ROOT = Path(emulator.__file__).parents[1]
NAME = "from emulator.instructions import CHOSEN; print(CHOSEN.name)"


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EMULATOR_SIMD", "NUMBA_"))}
    return subprocess.run(
        [sys.executable, *arguments], env=environment | variables, cwd=ROOT, capture_output=True, text=True
    )


def _test_products(**variables: str) -> None:
    done = _run("-m", "pytest", str(Path(__file__).with_name("test_products.py")), **variables)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", available())
def test_every_path_computes_the_products(name: str) -> None:
    assert _run("-c", NAME, EMULATOR_SIMD=name).stdout.strip() == name
    _test_products(EMULATOR_SIMD=name)


@pytest.mark.parametrize("name", [name for name in available() if name == "vnni"])
def test_a_processor_that_does_not_compress_bytes_computes_them_too(name: str) -> None:
    features = get_host_cpu_features().replace("+avx512vbmi2", "-avx512vbmi2")
    lesser = {"NUMBA_CPU_NAME": get_host_cpu_name(), "NUMBA_CPU_FEATURES": features, "EMULATOR_SIMD": name}
    done = _run("-c", "from emulator.instructions import COMPRESSES; print(COMPRESSES)", **lesser)
    assert done.stdout.strip() == "False", done.stderr
    _test_products(**lesser)


def test_plain_kernels_stay_inside_their_arrays(tmp_path: Path) -> None:
    _test_products(EMULATOR_SIMD="plain", NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))


def test_plain_python_computes_the_products() -> None:
    _test_products(NUMBA_DISABLE_JIT="1")


def test_the_fastest_path_is_the_default() -> None:
    assert _run("-c", NAME).stdout.strip() == available()[0]
    assert choose(None).name == available()[0]
    assert available()[-1] == "plain"


def test_numba_told_of_a_lesser_processor_gets_its_path() -> None:
    for features, name in (("", "plain"), ("+sse4.2", "plain")):
        done = _run("-c", NAME, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features)
        assert done.stdout.strip() == name, done.stderr
    done = _run("-c", NAME, EMULATOR_SIMD="vnni", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+sse4.2")
    assert "BadConfig: EMULATOR_SIMD=vnni, but numba compiles for a processor without avx512f" in done.stderr


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(BadConfig, match="'neon'; allowed: vnni, avx2, plain"):
        choose("neon")


def test_an_intrinsic_that_llvm_lost_is_passed_over_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = instructions._TRIALS["vnni"][0]._replace(intrinsic="llvm.x86.avx512.vpdpbusd.999")
    monkeypatch.setitem(instructions._TRIALS, "vnni", (lost,))
    monkeypatch.setitem(instructions._FEATURES, "vnni", ())
    with pytest.warns(UserWarning, match=r"no vnni, LLVM \d+ does not compile llvm.x86.avx512.vpdpbusd.999"):
        chosen = choose(None)
    assert chosen.name != "vnni"
    assert "no vnni: LLVM" in chosen.reason


def test_no_warning_where_only_the_processor_lacks_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(instructions._FEATURES, "vnni", ("no-such-feature",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "without no-such-feature" in choose(None).reason
