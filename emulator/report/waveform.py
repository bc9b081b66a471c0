"""A fault as a waveform: golden and faulty values of every register, cycle by cycle, in a Value Change Dump (VCD,
IEEE 1364-2005 clause 18) for GTKWave, Surfer and their like."""

from __future__ import annotations

from math import isclose, log10
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from emulator import __version__
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.trace import LayerTrace, Moment, Probe
from emulator.errors import BadConfig
from emulator.faults.fault import Fault
from emulator.faults.plan import plan_of
from emulator.faults.strike import operands
from emulator.sampling.workbench import Workbench

Ints = npt.NDArray[np.int64]

CYCLES_BEFORE = 16
CYCLES_AFTER = 64

_SCOPES = ("golden", "faulty")


def write_fault_waveform(
    path: Path,
    bench: Workbench,
    image: int,
    fault: Fault,
    *,
    before: int = CYCLES_BEFORE,
    after: int | None = None,
) -> range:
    """Write `fault`, striking input `image`, as VCD; the cycles in it.

    before, after: cycles before and after the (first) cycle of the fault; after defaults to CYCLES_AFTER and the
    cycles a row takes to leave the array. The file ends early where the layer does. Raises BadConfig for a fault
    outside the array and for a file that can't be written.
    """
    array, mac = bench.array, bench.network.graph.layers[fault.layer]
    trace = LayerTrace(
        plan_of(array, mac),
        operands(bench.golden, bench.inference(image), fault.layer),
        mac.requantisation,
        (fault.upset,),
        before=before,
        after=CYCLES_AFTER + array.drain_cycles if after is None else after,
    )
    title = f"layer {fault.layer} ({mac.name}) of {bench.network.graph.name}, input {image}\nfault: {fault}"
    try:
        with path.open("w", encoding="ascii", errors="replace", newline="\n") as file:
            return dump_trace(file, trace, title)
    except OSError as error:
        raise BadConfig(f"{str(path)!r} can't be written: {error.strerror}. Choose another file.") from error


def dump_trace(file: IO[str], trace: LayerTrace, title: str) -> range:
    """Write the trace as VCD, described by `title`; the cycles written."""
    from vcd import VCDWriter

    array, start = trace.plan.spec, trace.cycles.start
    writer = VCDWriter(
        file,
        timescale=_timescale(array),
        date="",  # The same fault gives the same file.
        version=f"systolic-fault-emulator {__version__}",
        comment=f"{title.replace('$', '')}\n{_legend(trace)}",
        init_timestamp=start,
    )
    dump = _Dump(writer, trace)
    cycle = start
    for cycle, moments in zip(trace.cycles, trace.moments(), strict=False):
        dump.take(cycle, moments)
    writer.close(cycle + 1)
    return range(start, cycle + 1)


class _Dump:
    """The variables of a file and their last values. Registers that never differ have one variable, in both
    scopes."""

    def __init__(self, writer: Any, trace: LayerTrace) -> None:
        self._writer = writer
        self._trace = trace
        differs = _differing(trace)
        first = next(trace.moments())
        self._last = [[trace.read(probe, moment) for moment in first] for probe in trace.probes]
        self._variables = [
            self._declare(probe, values, flags)
            for probe, values, flags in zip(trace.probes, self._last, differs, strict=True)
        ]
        self._cycle = writer.register_var("fault", "cycle", "integer", 32, init=trace.cycles.start)
        names = ["upset", "golden_complete", "faulty_complete", "differs"]
        names += [f"differs_{probe.register.name}" for probe in trace.probes]
        self._flags = {name: writer.register_var("fault", name, "wire", 1, init=0) for name in names}

    def _declare(
        self, probe: Probe, values: list[Ints], differs: npt.NDArray[np.bool_]
    ) -> tuple[list[Any], list[Any]]:
        """The variables of a class, golden and faulty."""
        golden, faulty = [], []
        name = probe.register.name
        places = zip(
            *(x.tolist() for x in (probe.row, probe.col, probe.width, differs, *values)), strict=True
        )
        for row, col, width, differing, before, after in places:
            signal = f"{name}_{row}_{col}"
            variable = self._writer.register_var(("golden", name), signal, "reg", width, init=before)
            golden.append(variable)
            if differing:
                faulty.append(self._writer.register_var(("faulty", name), signal, "reg", width, init=after))
            else:
                self._writer.register_alias(("faulty", name), signal, variable)
                faulty.append(None)
        return golden, faulty

    def take(self, cycle: int, moments: tuple[Moment, Moment]) -> None:
        """The values at the start of `cycle`."""
        self._writer.change(self._cycle, cycle, cycle)
        anywhere = False
        for i, probe in enumerate(self._trace.probes):
            golden, faulty = (self._trace.read(probe, moment) for moment in moments)
            for which, values in enumerate((golden, faulty)):
                self._change(self._variables[i][which], self._last[i][which], values, cycle)
            self._last[i] = [golden, faulty]
            wrong = bool((golden != faulty).any())
            self._flag(f"differs_{probe.register.name}", cycle, wrong)
            anywhere |= wrong
        self._flag("differs", cycle, anywhere)
        self._flag("upset", cycle, self._trace.struck(cycle))
        for name, moment in zip(_SCOPES, moments, strict=True):
            self._flag(f"{name}_complete", cycle, moment.complete)

    def _change(self, variables: list[Any], before: Ints, values: Ints, cycle: int) -> None:
        changed = np.flatnonzero(values != before)
        for i, value in zip(changed.tolist(), values[changed].tolist(), strict=True):
            if variables[i] is not None:
                self._writer.change(variables[i], cycle, value)

    def _flag(self, name: str, cycle: int, value: bool) -> None:
        self._writer.change(self._flags[name], cycle, int(value))


def _differing(trace: LayerTrace) -> list[npt.NDArray[np.bool_]]:
    """Of each probe's registers: do they ever differ?"""
    found = [np.zeros(len(probe), np.bool_) for probe in trace.probes]
    for golden, faulty in trace.moments():
        for probe, flags in zip(trace.probes, found, strict=True):
            flags |= trace.read(probe, golden) != trace.read(probe, faulty)
    return found


_UNITS = ("s", "ms", "us", "ns", "ps", "fs")


def _timescale(array: ArraySpec) -> str:
    """The power of ten that VCD can name and that is nearest to a clock period."""
    exponent = min(max(round(-log10(array.clock_hz)), -15), 2)
    unit = -(exponent // 3)
    return f"{10 ** (exponent + 3 * unit)} {_UNITS[unit]}"


def _legend(trace: LayerTrace) -> str:
    array = trace.plan.spec
    period, exponent = 1 / array.clock_hz, round(-log10(array.clock_hz))
    exact = "is" if isclose(period, 10.0**exponent) else "is only the nearest VCD can name to"
    signed = ", ".join(entry.name for entry in inventory(array) if entry.signed)
    memories = ", ".join(entry.name for entry in inventory(array) if entry.storage == "sram")
    return "\n".join(
        (
            f"array: {array.name}, {array.rows} x {array.cols}, {array.dataflow}",
            "One time unit is one clock cycle of the layer: time 40 is cycle 40.",
            f"The timescale {exact} the clock period, {period * 1e9:.6g} ns at {array.clock_hz / 1e6:g} MHz.",
            "A value at time t is that at the start of cycle t, upsets applied.",
            "Names are register_row_col, row and col as in --fault.",
            f"Signed, two's complement: {signed}.",
            f"Of {memories} only rows that are written or differ in this window.",
            "A run that is complete keeps its last values.",
        )
    )
