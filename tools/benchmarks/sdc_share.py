"""How often a flip anywhere in the mesh, at any time of a short bare program, changes its result: uniform over all
bits and cycles, register by register.

    .venv/bin/python tools/benchmarks/sdc_share.py [--flips N] [--json]

The programs are of the kind of tests/data/gemmini16_rtl_vectors.npz, on its operands: 16 x 16, full tiles. The
population is that of Gemmini's mesh: PEs, edges, skew and deskew, output registers, in_prop, and the transposer, which
none of them uses.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.array.program import LoadedProgram, Program
from emulator.array.registers import Register, inventory
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.array.vectors import OS, WS, N, Request, flushed, read_vectors
from emulator.sampling.intervals import wilson

VECTORS = Path(__file__).parents[2] / "tests/data/gemmini16_rtl_vectors.npz"
POPULATION = ("pe_", "buf_", "late_", "skew_", "out_", "deskew_", "in_prop", "transposer")
FLIPS, SEED = 150_000, 1


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A program and its array; cycles: from the first row accepted to the last result row, both included."""

    spec: ArraySpec
    program: Program
    cycles: int

    @property
    def accepted(self) -> int:
        """Cycles in which rows are accepted, the last request's included."""
        return len(self.program.act)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Flips that changed the result."""

    bits: int
    flips: int
    changed: int

    @property
    def rate(self) -> float:
        return self.changed / self.flips if self.flips else 0.0


def settings() -> dict[str, Setting]:
    """One full tile and two in a chain (WS), 16 and 32 products a PE (OS)."""
    x = read_vectors(VECTORS).operands
    ws = [Request(1, weight=x["W"][0][::-1]), Request(1, x["A"][0], x["D"][0], base=0)]
    chain = [ws[0], ws[1]._replace(weight=x["W"][1][::-1]), Request(1, x["A"][1], x["D"][1], base=N)]
    products = [Request(i == 0, x["OS_A"][i].T, x["OS_B"][i]) for i in range(2)]
    first = Request(1, weight=x["OS_D"][::-1])
    leaving = Request(1, base=0)
    return {
        "ws": _setting(WS, ws, N),
        "ws_chain2": _setting(WS, chain, 2 * N),
        "os_k16": _setting(OS, [first, products[0], leaving], N),
        "os_k32": _setting(OS, [first, *products, leaving], N),
    }


def _setting(spec: ArraySpec, requests: list[Request], rows: int) -> Setting:
    """The flush after the last request is not part of the cycles, but for what it still drains."""
    return Setting(spec=spec, program=flushed(requests, rows), cycles=len(requests) * N + spec.drain_cycles)


def population(spec: ArraySpec) -> list[Register]:
    """The registers of the mesh and its edges."""
    return [reg for reg in inventory(spec) if reg.name.startswith(POPULATION) and reg.total_bits > 0]


def sample(setting: Setting, flips: int, seed: int = SEED) -> tuple[dict[str, Share], Share]:
    """(each register's share, that of all over the cycles in which rows are accepted) of `flips` uniform flips."""
    rng = np.random.default_rng(seed)
    registers, array = population(setting.spec), LoadedProgram(setting.spec, setting.program)
    ends = np.cumsum([reg.total_bits for reg in registers])
    golden = array.run()
    word, cycle = rng.integers(0, ends[-1], flips), rng.integers(0, setting.cycles, flips)
    which = np.searchsorted(ends, word, side="right")
    changed = np.zeros(flips, np.bool_)
    for i in range(flips):
        reg = registers[which[i]]
        row, col, bit = (int(place) for place in reg.place(word[i] - ends[which[i]] + reg.total_bits))
        upset = Upset(register=reg.name, row=row, col=col, bits=(bit,), cycle=int(cycle[i]))
        changed[i] = not np.array_equal(array.run((upset,)), golden)
    shares = {
        reg.name: Share(
            bits=reg.total_bits, flips=int((which == i).sum()), changed=int(changed[which == i].sum())
        )
        for i, reg in enumerate(registers)
    }
    early = cycle < setting.accepted
    return shares, Share(bits=int(ends[-1]), flips=int(early.sum()), changed=int(changed[early].sum()))


def total(shares: dict[str, Share]) -> Share:
    return Share(**{name: sum(getattr(s, name) for s in shares.values()) for name in Share.__annotations__})


def report(flips: int) -> dict[str, Any]:
    """Everything, with plain types; contribution: of a register to the share of all."""
    found: dict[str, Any] = {}
    for name, setting in settings().items():
        shares, accepted = sample(setting, flips)
        every = total(shares)
        found[name] = {
            "cycles": setting.cycles,
            "bits": every.bits,
            "share": every.rate,
            "interval": wilson(every.changed, every.flips),
            "accepted_cycles": setting.accepted,
            "share_while_accepted": accepted.rate,
            "interval_while_accepted": wilson(accepted.changed, accepted.flips),
            "registers": {
                reg: {
                    "bits": s.bits,
                    "population": s.bits / every.bits,
                    "share": s.rate,
                    "contribution": s.changed / every.flips,
                }
                for reg, s in shares.items()
            },
        }
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: registers down, programs across."""
    lines = ["| register | bits | of all |" + "".join(f" {name} | adds |" for name in found)]
    lines.append("|---|---|---|" + "---|---|" * len(found))
    first = next(iter(found.values()))["registers"]
    for reg, facts in sorted(first.items(), key=lambda item: -item[1]["bits"]):
        cells = [
            f" {100 * one['registers'][reg]['share']:.1f} | {100 * one['registers'][reg]['contribution']:.2f} |"
            for one in found.values()
        ]
        lines.append(f"| `{reg}` | {facts['bits']:,} | {100 * facts['population']:.1f} % |" + "".join(cells))
    for text, key in (("all", "share"), ("while rows are accepted", "share_while_accepted")):
        interval = key.replace("share", "interval")
        cells = [
            f" {100 * one[key]:.2f} | {100 * one[interval][0]:.2f} to {100 * one[interval][1]:.2f} |"
            for one in found.values()
        ]
        lines.append(f"| {text} | {sum(r['bits'] for r in first.values()):,} | |" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=FLIPS, help="of each program (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = report(arguments.flips)
    print(json.dumps(found, indent=2) if arguments.json else table(found))


if __name__ == "__main__":
    main()
