"""An array's data sheet: its registers and its preset in words and plain numbers, from the inventory and the spec."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from emulator.array.exposure.cells import Computing, Shifting
from emulator.array.exposure.flow import Flow
from emulator.array.exposure.lifetime import Always, Dead, Lifetime, Requantising, Union
from emulator.array.exposure.memory import AccumulatorWord, BufferWord
from emulator.array.presets import PRESETS
from emulator.array.registers import Register, inventory
from emulator.array.spec import ArraySpec

BITS_PER_KIB = 8 * 1024


def register_facts(entry: Register) -> dict[str, Any]:
    """A register class with plain types. bits: of the whole class; bits_each: of one register, first_row_bits: of
    one in row 0; never_live: no upset in it ever matters."""
    return {
        "name": entry.name,
        "geometry": geometry(entry),
        "registers": entry.count,
        "bits_each": entry.bits,
        "first_row_bits": entry.first_row_bits,
        "bits": entry.total_bits,
        "storage": entry.storage,
        "signed": entry.signed,
        "meaning": entry.meaning,
        "never_live": never_live(entry),
        "live_when": live_when(entry.lifetime, entry.bits),
    }


def geometry(entry: Register) -> str:
    """`rows x columns` as in an Upset, or lines of so many stages."""
    lengths = set(entry.lines)
    if len(lengths) == 1:
        size = f"{len(entry.lines)} x {entry.lines[0]}"
        return f"{size}, row {entry.first_row}" if entry.first_row else size
    return f"{len(entry.lines)} lines of {min(lengths)} to {max(lengths)}"


def bits_each(entry: Register) -> str:
    """The width of a register, and that in row 0 where it is another."""
    narrow = entry.first_row_bits != entry.bits
    return f"{entry.bits} ({entry.first_row_bits} in row 0)" if narrow else str(entry.bits)


def never_live(entry: Register) -> bool:
    """Is every bit dead in every cycle of every layer? True of a class without bits (a skew of one column) too."""
    return isinstance(entry.lifetime, Dead) or entry.total_bits == 0


_PASSING = {
    "stream": "an operand row",
    "preload": "a row to preload",
    "result": "a result row",
    "first result": "a result row of a block's first k-fold",
    "drained": "a drained row",
}


def live_when(lifetime: Lifetime, bits: int) -> str:
    """In words, when a flip of a register of `bits` bits can reach a written result."""
    match lifetime:
        case Dead():
            return "never"
        case Always():
            return "any cycle may matter" + (", in column 0" if lifetime.columns == 1 else "")
        case Requantising():
            return live_when(lifetime.part, bits) + "; never where sums leave unrequantised"
        case Union():
            parts = lifetime.parts
            return "; ".join(_unlimited(part) for part in parts) + _limit(parts[0], bits)
        case _:
            return _unlimited(lifetime) + _limit(lifetime, bits)


def _unlimited(lifetime: Lifetime) -> str:
    match lifetime:
        case Computing():
            where = "all rows, used columns" if lifetime.all_rows else "used rows and columns"
            what = "an operand row passes" if lifetime.bank is None else "its fold computes"
            return f"while {what}, in {where}"
        case Shifting():
            return f"while a {'result is shifted out' if lifetime.out else 'word is shifted to its row'}"
        case Flow():
            lines = "rows" if lifetime.limit == "rows" else "columns"
            return f"while {_PASSING[lifetime.moving]} passes, in used {lines}"
        case AccumulatorWord():
            return "from a block's first sum until it is drained, except while an addition overwrites it"
        case BufferWord():
            return "from the load of a tile until the last fold that reads it"
    raise TypeError(f"no words for {lifetime}")


def _limit(lifetime: Lifetime, bits: int) -> str:
    live = getattr(lifetime, "bits", bits)
    return f"; bits 0 to {live - 1}" if live < bits else ""


def storage_totals(spec: ArraySpec) -> dict[str, dict[str, int]]:
    """Register classes, bits, and bits that are never live, by kind of storage."""
    totals: dict[str, dict[str, int]] = {}
    for entry in inventory(spec):
        total = totals.setdefault(entry.storage, {"classes": 0, "bits": 0, "never_live_bits": 0})
        total["classes"] += 1
        total["bits"] += entry.total_bits
        total["never_live_bits"] += entry.total_bits if never_live(entry) else 0
    return totals


def preset_facts(name: str) -> dict[str, Any]:
    """The fields of a preset, its memories in KiB and its peak, two operations a multiply-accumulate."""
    spec = ArraySpec.preset(name)
    words = {
        "accumulator": (spec.acc_rows, spec.cols, spec.acc_bits),
        "act_buffer": (spec.act_buffer_rows, spec.rows, spec.act_bits),
        "wgt_buffer": (spec.wgt_buffer_rows, spec.cols, spec.wgt_bits),
    }
    sizes = {
        f"{memory}_kib": rows * cols * bits / BITS_PER_KIB for memory, (rows, cols, bits) in words.items()
    }
    return asdict(spec) | sizes | {"peak_tops": 2 * spec.rows * spec.cols * spec.clock_hz / 1e12}


def presets() -> list[dict[str, Any]]:
    """`preset_facts` of every preset."""
    return [preset_facts(name) for name in PRESETS]


def registers_page(spec: ArraySpec) -> str:
    """The inventory as a Markdown page that says how it was made."""
    rows = [
        f"| `{e.name}` | {geometry(e)} | {bits_each(e)} | {e.total_bits:,} | {e.storage} | {e.meaning} | "
        f"{live_when(e.lifetime, e.bits)} |"
        for e in inventory(spec)
    ]
    totals = [
        f"| {storage} | {total['classes']} | {total['bits']:,} | {total['never_live_bits']:,} |"
        for storage, total in storage_totals(spec).items()
    ]
    return "\n".join([_HEAD.format(name=spec.name), *rows, _TOTALS, *totals, ""])


_HEAD = """\
# Registers of {name}

<!-- Made by: emulator inspect --registers --array {name} --markdown > docs/registers.md -->

Every register class that a fault can name, from `emulator/array/registers.py`. Row and column are those of `--fault`;
what each register does is in [machine.md](machine.md). *Live* says when a flip can reach a written result: the other
bits and cycles are dead, and so is what lies beyond the edge of a tile.

| register | geometry | bits each | bits | storage | meaning | live |
|---|---|---|---|---|---|---|"""

_TOTALS = """
| storage | classes | bits | never live |
|---|---|---|---|"""
