"""Which instructions the int8 dot products of `simd` are compiled to, chosen once, at import.

`vnni`: AVX-512 vpdpbusd; `avx2`: vpmaddwd on widened operands; `plain`: what numba makes of a loop. The fastest that
both the processor and numba's LLVM have is taken; EMULATOR_SIMD names another. All give the same integers.

An intrinsic is compiled on trial, as assembly text, and must come out as its instruction: LLVM drops and renames
intrinsics between versions, and calls an unknown one as if it were a function. It is tried only where numba's list of
features has the instruction, because LLVM ends the process over one that the processor lacks.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
from numba.core.codegen import get_host_cpu_features

from emulator.errors import BadConfig

VARIABLE = "EMULATOR_SIMD"

_config: Any = numba.config


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """The path in use, and why it is this one: for people."""

    name: str
    reason: str


class _Trial(NamedTuple):
    """An intrinsic of LLVM and the instruction that it stands for."""

    intrinsic: str
    mnemonic: str
    result: str
    operands: tuple[str, ...]


# What each path needs: features as numba passes them to LLVM, and intrinsics; the fastest path first.
_FEATURES = {
    "vnni": ("avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx2"),
    "avx2": ("avx2",),
    "plain": (),
}
_EXTRAS = {"compress": ("avx512vbmi2",)}
_WIDE, _NARROW, _HALVES, _BYTES = "<16 x i32>", "<8 x i32>", "<16 x i16>", "<64 x i8>"
_TRIALS = {
    "vnni": (
        _Trial("llvm.x86.avx512.vpdpbusd.512", "vpdpbusd", _WIDE, (_WIDE, _WIDE, _WIDE)),
        _Trial("llvm.x86.avx512.vpdpwssd.512", "vpdpwssd", _WIDE, (_WIDE, _WIDE, _WIDE)),
    ),
    "compress": (
        _Trial("llvm.x86.avx512.mask.compress.v64i8", "vpcompressb", _BYTES, (_BYTES, _BYTES, "<64 x i1>")),
    ),
    "avx2": (_Trial("llvm.x86.avx2.pmadd.wd", "vpmaddwd", _NARROW, (_HALVES, _HALVES)),),
}


def available() -> tuple[str, ...]:
    """The paths that can be had here, the fastest first."""
    return tuple(name for name in _FEATURES if _missing(name) is None)


def choose(wanted: str | None) -> Instructions:
    """The path named by `wanted`, or the fastest there is.

    Raises BadConfig where `wanted` can't be had. Warns where the processor has an instruction and LLVM lost it.
    """
    if wanted:
        return _forced(wanted)
    passed_over: list[str] = []
    for name in _FEATURES:
        missing = _missing(name)
        if missing is None:
            reason = "; ".join(passed_over) or "the fastest path, and this processor has it"
            return Instructions(name=name, reason=reason)
        passed_over.append(f"no {name}: {missing}")
        if "LLVM" in missing:
            warnings.warn(
                f"int8 kernels run slower than they could: no {name}, {missing}. "
                "Results are the same. Another version of numba may have it.",
                stacklevel=2,
            )
    raise AssertionError("the plain path is never missing")


def _forced(wanted: str) -> Instructions:
    if wanted not in _FEATURES:
        raise BadConfig(
            f"{VARIABLE}={wanted!r}; allowed: {', '.join(_FEATURES)}, or unset it for the fastest."
        )
    missing = _missing(wanted)
    if missing is not None:
        raise BadConfig(f"{VARIABLE}={wanted}, but {missing}; unset it, or use {VARIABLE}=plain.")
    return Instructions(name=wanted, reason=f"{VARIABLE}={wanted}")


def _missing(name: str) -> str | None:
    """What keeps a path from being used."""
    if name == "plain":
        return None
    if _config.DISABLE_JIT:
        return "the JIT is off (NUMBA_DISABLE_JIT)"
    given = get_host_cpu_features() if _config.CPU_FEATURES is None else _config.CPU_FEATURES
    lacking = [feature for feature in (_FEATURES | _EXTRAS)[name] if f"+{feature}" not in given.split(",")]
    if lacking:
        return f"numba compiles for a processor without {', '.join(lacking)}"
    failed = [trial.intrinsic for trial in _TRIALS[name] if not _compiles(trial, given)]
    return f"LLVM {llvm.llvm_version_info[0]} does not compile {', '.join(failed)}" if failed else None


def _compiles(trial: _Trial, features: str) -> bool:
    """Does the intrinsic come out as its instruction?"""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    operands = ", ".join(f"{kind} %{place}" for place, kind in enumerate(trial.operands))
    source = (
        f"declare {trial.result} @{trial.intrinsic}({', '.join(trial.operands)})\n"
        f"define {trial.result} @trial({operands}) {{\n"
        f"  %sum = call {trial.result} @{trial.intrinsic}({operands})\n"
        f"  ret {trial.result} %sum\n}}\n"
    )
    try:
        module = llvm.parse_assembly(source)
        module.verify()
    except RuntimeError:
        return False
    cpu = llvm.get_host_cpu_name() if _config.CPU_NAME is None else _config.CPU_NAME
    target = llvm.Target.from_triple(llvm.get_process_triple())
    assembly = target.create_target_machine(cpu=cpu, features=features).emit_assembly(module)
    return trial.mnemonic in assembly and trial.intrinsic not in assembly


CHOSEN = choose(os.environ.get(VARIABLE))

COMPRESSES = CHOSEN.name == "vnni" and _missing("compress") is None
"""Does it pick bytes out of a vector, too (AVX-512 VBMI2)?"""
