"""Units of every cut against all bits of an array, one after the other, in plain Python."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.campaign.results import Results
from emulator.campaign.trials import HeldTrials
from emulator.errors import BadConfig
from emulator.harden.units import units_of

SMALL = ArraySpec(rows=3, cols=4, acc_rows=6, act_buffer_rows=8, wgt_buffer_rows=6)
ENTRIES = inventory(SMALL)

UPSET = {entry.name: 1.0 for entry in ENTRIES}

KEYS: dict[str, Any] = {
    "register": lambda n, row, col, bit: n,
    "register-bit": lambda n, row, col, bit: (n, bit),
    "row-bit": lambda n, row, col, bit: (n, row, bit),
    "word": lambda n, row, col, bit: (n, row, col),
    "bit": lambda n, row, col, bit: (n, row, col, bit),
    "pe": lambda n, row, col, bit: (row, col) if n.startswith("pe_") else n,
}


def every_bit() -> list[tuple[str, int, int, int]]:
    return [
        (e.name, e.first_row + line, col, bit)
        for e in ENTRIES
        for line, length in enumerate(e.lines)
        for col in range(length)
        for bit in range(e.width(e.first_row + line))
    ]


def live(name: str) -> int:
    """Of a made-up count."""
    return 3 + 10 * [e.name for e in ENTRIES].index(name)


def struck_everywhere(**changed: Any) -> Results:
    """A trial in every bit."""
    names, rows, cols, bits = zip(*every_bit(), strict=True)
    frame = {"register": names, "row": rows, "col": cols, "bits": np.int64(1) << np.array(bits), "layer": 0}
    manifest = {
        "array": {name: getattr(SMALL, name) for name in SMALL.__slots__},
        "registers": [e.name for e in ENTRIES],
        "layers": [{"index": 0, "name": "a", "window_cycles": 9}],
        "space": {
            "breakdown": [
                {
                    "layer": 0,
                    "layer_name": "a",
                    "register": e.name,
                    "sites": 9 * e.total_bits,
                    "live": live(e.name),
                }
                for e in ENTRIES
            ]
        },
        "sampler": {"name": "uniform"},
        **changed,
    }
    return Results(directory=Path("all"), manifest=manifest, table=HeldTrials(pd.DataFrame(frame)))


@pytest.mark.parametrize("by", KEYS)
def test_units_are_the_bits_that_share_a_key(by: str) -> None:
    units = units_of(struck_everywhere(), by, UPSET)
    keys = [KEYS[by](*bit) for bit in every_bit()]
    found = dict(zip(keys, units.of.tolist(), strict=True))
    assert [found[key] for key in keys] == units.of.tolist()
    assert len(set(found.values())) == len(found)
    # Bits that row 0 lacks leave units without bits.
    sizes = np.bincount(units.of, minlength=len(units))
    assert units.bits.tolist() == sizes.tolist()


@pytest.mark.parametrize("by", KEYS)
def test_code_words_are_what_is_read_at_once(by: str) -> None:
    """Of a memory the bits of a row, else those of one register."""
    units = units_of(struck_everywhere(), by, UPSET)
    storage = {e.name: e.storage for e in ENTRIES}
    words: dict[Any, int] = defaultdict(int)
    for (name, row, col, _), unit in zip(every_bit(), units.of.tolist(), strict=True):
        sram = storage[name] == "sram"
        words[unit, name if by == "pe" else None, row, None if sram else (name, col)] += 1
    expected = np.zeros(len(units), int)
    widest = np.zeros(len(units), int)
    for (unit, *_), width in words.items():
        expected[unit] += 1
        widest[unit] = max(widest[unit], width)
    parts = units.parts
    assert np.bincount(parts.unit, parts.words, len(units)).tolist() == expected.tolist()
    largest = np.zeros(len(units), int)
    np.maximum.at(largest, parts.unit, parts.width)
    assert largest.tolist() == widest.tolist()


@pytest.mark.parametrize("by", ["register-bit", "row-bit", "word", "bit"])
def test_coarser_units_hold_finer_ones_whole(by: str) -> None:
    units = units_of(struck_everywhere(), by, UPSET)
    for level, above in (
        ("register", units.struck[0]),
        *([("register-bit", units.struck[1])] if "row-bit" in by or by == "bit" else []),
        *([("word", units.exposed[1])] if by == "bit" else []),
        (by, units.exposed[-1]),
        (by, units.struck[-1]),
    ):
        coarse = units_of(struck_everywhere(), level, UPSET)
        assert above[units.of].tolist() == coarse.of.tolist()


def test_names_say_where_a_unit_is() -> None:
    units = units_of(struck_everywhere(), "row-bit", UPSET)
    for (name, row, _, bit), unit in list(zip(every_bit(), units.of.tolist(), strict=True))[::97]:
        assert units.name(unit) == {"register": name, "row": row, "bit": bit}
    pes = units_of(struck_everywhere(), "pe", UPSET)
    assert pes.name(5) == {"register": "pe_*", "row": 1, "col": 1}
    assert pes.name(SMALL.rows * SMALL.cols) == {
        "register": next(e.name for e in ENTRIES if e.name[:3] != "pe_")
    }


@pytest.mark.parametrize("by", [*KEYS, "layer"])
def test_live_sites_weigh_by_raw_rate_and_spread_over_a_register(by: str) -> None:
    upset = {entry.name: (0.0, 0.5, 1.0)[i % 3] for i, entry in enumerate(ENTRIES)}
    units = units_of(struck_everywhere(), by, upset)
    bits = {entry.name: entry.total_bits for entry in ENTRIES}
    each = [live(name) * upset[name] / bits[name] for name, *_ in every_bit()]
    assert units.exposure == pytest.approx(np.bincount(units.of, each, len(units)))
    assert set(np.flatnonzero(units.exposure == 0)) >= {
        unit
        for (name, *_), unit in zip(every_bit(), units.of.tolist(), strict=True)
        if upset[name] == 0 and by not in ("pe", "layer")
    }


def test_layers_cost_cycles() -> None:
    units = units_of(struck_everywhere(), "layer", UPSET)
    assert (units.in_time, units.bits.tolist(), units.name(0)) == (True, [9], {"layer": "a"})


@pytest.mark.parametrize("by", ["register-bit", "pe", "bit"])
def test_classes_of_sites_are_refused_where_they_spread(by: str) -> None:
    counted = struck_everywhere(sampler={"name": "exhaustive"})
    with pytest.raises(BadConfig, match=r"allowed here: register, layer.*sampler importance"):
        units_of(counted, by, UPSET)
    assert len(units_of(counted, "register", UPSET)) == len(ENTRIES)


def test_unknown_cuts_and_campaigns_without_pes_are_refused() -> None:
    with pytest.raises(BadConfig, match="allowed: register, register-bit, row-bit, word, bit, pe, layer"):
        units_of(struck_everywhere(), "nibble", UPSET)
    with pytest.raises(BadConfig, match="no register of a PE"):
        units_of(struck_everywhere(registers=["accumulator"]), "pe", UPSET)
