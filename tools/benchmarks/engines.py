"""The array engines against our own Verilated RTL: cycles a second, and faults a second.

Each figure is the median of several runs, the competitors taking turns; one core. The RTL is measured as Verilator
and g++ build it with -O3, for this very processor (-march=native), and with loops arranged for vector instructions:
the last is the fastest we know how to make it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from emulator.array.closed_form import accumulator_errors, covered
from emulator.array.compile import compile_layer
from emulator.array.cycle import observer, run
from emulator.array.exposure.lifetime import Sites
from emulator.array.host import Host
from emulator.array.layout import grid
from emulator.array.operands import Operands
from emulator.array.registers import register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.gemm import GemmShape, Requantisation

sys.path.insert(0, str(Path(__file__).parents[1] / "rtl"))
import build
import rtl

ROUNDS = 7
BUILDS = ("-O3", "-O3 -march=native", "vectorised")
# Registers whose flips have a closed form without stepping a column, and are in the RTL.
STRUCK = ("pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2")


def main() -> None:
    """Print the table, or JSON; exit 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    results = [row for dataflow in ("ws", "os") for row in measure(dataflow)]
    report = {"machine": machine(), "rounds": ROUNDS, "results": results}
    print(json.dumps(report, indent=2) if wanted.json else table(report))
    sys.exit(0 if all(row["met"] for row in results if row["limit"]) else 1)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.processor(),
        "python": platform.python_version(),
    }


def measure(dataflow: str) -> list[dict[str, Any]]:
    """All figures of one dataflow at 16 x 16."""
    spec = replace(ArraySpec.preset("gemmini-16"), dataflow=dataflow)
    plan, _, host = layer(spec, GemmShape(m=256, k=144, n=16))
    circuits = {name: circuit(spec, plan, host, name) for name in BUILDS}
    runs: dict[str, Callable[[], float]] = {"cycle engine": lambda: engine_rate(plan, host)}
    for name, array in circuits.items():
        runs[name] = lambda array=array: 20_000 / array.time(20_000)
    rates = in_turns(runs)
    rows = [ratio(f"{dataflow}: cycles/s, RTL {name}", rates["cycle engine"], rates[name]) for name in BUILDS]
    rows[0] |= limit(rows[0], 8)
    return rows + fault_rates(spec, circuits["vectorised"])


def layer(spec: ArraySpec, shape: GemmShape) -> tuple[Schedule, Operands, Host]:
    """Random int8 operands and their host tables."""
    rng = np.random.default_rng(0)
    operands = Operands(
        act=rng.integers(-128, 128, (1, shape.m, shape.k)).astype(np.int8),
        wgt=rng.integers(-128, 128, (1, shape.k, shape.n)).astype(np.int8),
        bias=rng.integers(-1000, 1000, (1, shape.n)).astype(np.int32),
    )
    plan = schedule(spec, shape)
    scales = Requantisation(scale=np.full(shape.n, 1e-3, np.float32), zero_point=0)
    return plan, operands, compile_layer(plan, operands, scales)


def circuit(spec: ArraySpec, plan: Schedule, host: Host, name: str) -> rtl.Rtl:
    """The RTL, built in one of the three ways, with the program loaded."""
    size = build.Parameters(act_rows=spec.act_buffer_rows, wgt_rows=spec.wgt_buffer_rows)
    array = rtl.Rtl(size, build.build(size, style=name))
    zero_point, low, high = host.clip
    array.load(
        rtl.Program(
            requests=host.requests,
            cycles=2 * plan.window_cycles,
            loads=host.loads,
            act_source=host.act,
            wgt_source=host.wgt,
            bias=host.bias,
            scale=host.scale.view(np.uint32),
            blocks=host.blocks,
            out_rows=int(plan.m_size[plan.last_folds].sum()),
            os=plan.output_stationary,
            zero_point=zero_point,
            low=low,
            high=high,
        )
    )
    return array


def engine_rate(plan: Schedule, host: Host) -> float:
    """Cycles a second of a whole run."""
    seen, nothing = observer(plan), np.zeros((0, 10), np.int64)
    start = time.perf_counter()
    _, cycles = run(grid(plan.spec), host, seen, nothing, 2 * plan.window_cycles)
    return cycles / (time.perf_counter() - start)


def fault_rates(spec: ArraySpec, array: rtl.Rtl) -> list[dict[str, Any]]:
    """Flips of one full tile: the closed form against the RTL from checkpoints, with early exit."""
    plan, operands, host = layer(spec, GemmShape(m=16, k=16, n=16))
    array = circuit(spec, plan, host, "vectorised")
    rng = np.random.default_rng(1)
    sites = {name: random_sites(plan, name, rng, 20_000) for name in STRUCK}
    upsets = [
        rtl.Upset(register=name, row=int(r), col=int(c), mask=1 << int(b), first=int(t))
        for name, at in sites.items()
        for r, c, b, t in zip(*(column[:400] for column in at), strict=True)
    ]
    packed = array.upsets(upsets)

    def closed() -> float:
        start = time.perf_counter()
        for name, at in sites.items():
            accumulator_errors(plan, operands, register(spec, name), at)
        return len(STRUCK) * 20_000 / (time.perf_counter() - start)

    def checkpointed() -> float:
        start = time.perf_counter()
        array.checkpointed(packed, interval=4)
        return len(packed) / (time.perf_counter() - start)

    rates = in_turns({"closed": closed, "rtl": checkpointed})
    row = ratio(f"{spec.dataflow}: faults/s, RTL vectorised, checkpoints", rates["closed"], rates["rtl"])
    return [row | limit(row, 50)]


def random_sites(plan: Schedule, name: str, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over the register's bits and the cycles of the layer."""
    reg = register(plan.spec, name)
    row, col, bit = reg.place(rng.integers(0, reg.total_bits, count))
    at = Sites(row, col, bit, rng.integers(0, plan.cycles, count))
    assert covered(plan, reg, at).all()
    return at


def in_turns(runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median rate of each, the competitors taking turns; the first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS + 1):
        for name, measured in runs.items():
            rate = measured()
            if turn > 0:
                rates[name].append(rate)
    return {name: median(found) for name, found in rates.items()}


def ratio(name: str, ours: float, theirs: float) -> dict[str, Any]:
    """One line of the report."""
    return {"name": name, "ours": ours, "theirs": theirs, "ratio": ours / theirs, "limit": None, "met": True}


def limit(row: dict[str, Any], least: float) -> dict[str, Any]:
    """What the ratio must reach."""
    return {"limit": least, "met": row["ratio"] >= least}


def table(report: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{report['machine']['cpu']}, median of {report['rounds']} runs, one core"]
    for row in report["results"]:
        wanted = f"  (wanted: {row['limit']}x, {'met' if row['met'] else 'MISSED'})" if row["limit"] else ""
        lines.append(
            f"{row['name']:48} {row['ours']:12,.0f} {row['theirs']:12,.0f} {row['ratio']:8.1f}x{wanted}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
