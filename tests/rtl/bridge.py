"""The same program and the same upsets on the emulator's cycle engine and on the Verilated RTL of tools/rtl."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emulator.array.cycle import run
from emulator.array.host import Host, Observed
from emulator.array.injection import encode_upsets
from emulator.array.layout import Control, grid
from emulator.array.registers import Register
from emulator.array.spec import ArraySpec
from emulator.array.upset import KINDS, Upset

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "rtl"))
import rtl
from build import Parameters

Words = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run leaves; every field must agree."""

    drained: Words
    written: Words
    memory: Words
    last_result: int
    completed: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__
        )

    __hash__ = None  # type: ignore[assignment]


def parameters(spec: ArraySpec) -> Parameters:
    return Parameters(
        **{
            name: getattr(spec, name)
            for name in ("rows", "cols", "act_bits", "wgt_bits", "psum_bits", "bank_bits")
        },
        acc_bits=spec.acc_bits,
        acc_rows=spec.acc_rows,
        act_rows=spec.act_buffer_rows,
        wgt_rows=spec.wgt_buffer_rows,
        saturate=spec.overflow == "saturate",
        fixed_point=spec.requantiser == "fixed-point",
    )


@cache
def machine(spec_parameters: Parameters) -> rtl.Rtl:
    """One library a parameter set, built when first asked for."""
    return rtl.Rtl(spec_parameters)


def load(spec: ArraySpec, host: Host, out_rows: int, cycles: int) -> rtl.Rtl:
    """The RTL with this program."""
    array = machine(parameters(spec))
    zero_point, low, high = host.clip
    array.load(
        rtl.Program(
            requests=host.requests,
            cycles=cycles,
            loads=host.loads,
            act_source=host.act,
            wgt_source=host.wgt,
            stream=host.stream,
            bias=host.bias,
            scale=host.scale.view(np.uint32),
            shift=host.shift.view(np.uint32),
            blocks=host.blocks,
            out_rows=out_rows,
            os=spec.dataflow == "os",
            bias_tiled=bool(host.bias_tiled),
            scale_step=host.scale_step,
            requantised=bool(host.requantised),
            zero_point=zero_point,
            low=low,
            high=high,
        )
    )
    return array


def by_rtl(array: rtl.Rtl, upsets: list[Upset]) -> Outcome:
    found = array.run([as_rtl(upset) for upset in upsets])
    completed = found.completion if found.complete else -1
    return Outcome(
        drained=found.observed,
        written=found.output,
        memory=found.accumulator,
        last_result=found.last_result,
        completed=completed,
    )


def as_rtl(upset: Upset) -> rtl.Upset:
    return rtl.Upset(
        register=upset.register,
        row=upset.row,
        col=upset.col,
        mask=sum(1 << bit for bit in upset.bits),
        first=upset.cycle,
        last=(1 << 62) if upset.until_cycle is None else upset.until_cycle,
        kind=KINDS.index(upset.kind),
    )


def by_engine(spec: ArraySpec, host: Host, out_rows: int, cycles: int, upsets: list[Upset]) -> Outcome:
    g = grid(spec)
    words, log = np.zeros((2, out_rows, spec.cols), np.int32), np.zeros((2, 2 * cycles + 2), np.int32)
    seen = Observed(words[0], words[1], log[0], log[1])
    state, cycle = run(g, host, seen, encode_upsets(spec, g, upsets), cycles)
    control = state[g.control :]
    rows = int(control[Control.LAST_RESULT])
    return Outcome(
        drained=words[0],
        written=words[1],
        memory=state[g.memory :].reshape(spec.acc_rows, spec.cols),
        # No result row arrives in cycle 0.
        last_result=rows or -1,
        completed=cycle if control[Control.COMPLETE] else -1,
    )


def random_upset(reg: Register, cycles: int, rng: np.random.Generator) -> Upset:
    """Any place, any bits, any kind: flips half of the time, several bits in a third of the cases."""
    row, col, bit = (int(x) for x in reg.place(np.array(rng.integers(reg.total_bits))))
    width, cycle = reg.width(row), int(rng.integers(cycles))
    bits = {bit}
    if rng.random() < 1 / 3:
        bits |= set(rng.integers(0, width, 3).tolist())
    kind = KINDS[0] if rng.random() < 0.5 else KINDS[int(rng.integers(1, 3))]
    until = None if kind == KINDS[0] or rng.random() < 0.3 else cycle + int(rng.integers(30))
    return Upset(
        register=reg.name,
        row=row,
        col=col,
        bits=tuple(sorted(bits)),
        kind=kind,
        cycle=cycle,
        until_cycle=until,
    )
