"""Costs against Hamming's bound and sums by hand, and what a table may not say."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest

from emulator.errors import BadConfig
from emulator.harden.techniques import Techniques, read_techniques, secded_bits
from emulator.harden.units import Parts, Units

TABLE = read_techniques()


def units(*, sram: bool, words: int, width: int, by: str = "register") -> Units:
    one = np.ones(1, np.int64)
    return Units(
        by=by,  # type: ignore[arg-type]
        of=np.zeros(1, np.int64),
        parts=Parts(
            unit=0 * one,
            sram=np.array([sram]),
            words=words * one,
            width=width * one,
            bits=words * width * one,
        ),
        exposure=np.ones(1),
        exposed=(),
        struck=(),
        names={"register": np.array(["x"])},
    )


def cost(technique: str, of: Units) -> float:
    chosen = TABLE.suited(of, [technique])
    return float(TABLE.costs(of, chosen)[0, 0])


def test_secded_meets_hammings_bound() -> None:
    width = np.arange(1, 600)
    by_search = [next(r for r in count(1) if 2**r >= n + r + 1) + 1 for n in width.tolist()]
    assert secded_bits(width).tolist() == by_search
    # Hsiao 1970, table 1.
    assert secded_bits(np.array([8, 16, 32, 64, 128])).tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("technique", "sram", "expected"),
    [
        ("parity", True, 10 * 1 * 0.125),
        ("parity", False, 10 * 1 + 320 * 0.7),
        ("secded", True, 10 * 7 * 0.125),
        ("secded", False, 10 * 7 + 320 * 2.8),
        ("tmr", True, 320 * 2 * 0.125),
        ("tmr", False, 320 * 2.77),
        ("hardened", True, 320 * 0.125),
        ("hardened", False, 320.0),
    ],
)
def test_ten_words_of_32_bits(technique: str, sram: bool, expected: float) -> None:
    assert cost(technique, units(sram=sram, words=10, width=32)) == pytest.approx(expected)


def test_a_layer_costs_its_cycles_again() -> None:
    layer = units(sram=False, words=1, width=400, by="layer")
    assert (cost("repeat", layer), cost("vote", layer), TABLE.size(layer)) == (400, 800, 400)
    assert list(TABLE.suited(layer)) == ["repeat", "vote"]
    assert list(TABLE.suited(units(sram=True, words=1, width=8))) == ["parity", "secded", "tmr", "hardened"]


def test_size_is_the_area_of_the_bits() -> None:
    assert TABLE.size(units(sram=True, words=10, width=32)) == 40
    assert TABLE.size(units(sram=False, words=10, width=32)) == 320


def table(tmp_path: Path, text: str) -> Techniques:
    path = tmp_path / "t.toml"
    path.write_text(text, encoding="utf-8")
    return read_techniques(path)


GOOD = '[cells]\nflip-flop = 1.0\nsram = 0.2\n[techniques.mine]\neffect = "corrected"\nresidual = 0.5\n'


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    mine = table(tmp_path, GOOD + "extra_cells = 0.5\nlogic = { sram = 0.01 }\n")
    of = units(sram=True, words=10, width=32)
    assert mine.costs(of, mine.suited(of))[0, 0] == pytest.approx(320 * (0.5 * 0.2 + 0.01))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "extra_cell = 1.0\n", r"'techniques.mine.extra_cell' \(did you mean 'extra_cells'\?\)"),
        (GOOD + "logic = { flipflop = 1.0 }\n", r"did you mean 'flip-flop'\?"),
        (GOOD.replace("0.5", "1.5"), r"techniques.mine.residual = 1.5: input should be less than or equal"),
        (GOOD + "check = 'crc'\n", r"techniques.mine.check = 'crc'"),
        ("[cells]\n", r"techniques is missing"),
        ("[cells\n", r"can't be read"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        table(tmp_path, text)


def test_unknown_and_unfit_techniques_are_refused() -> None:
    of = units(sram=True, words=1, width=8)
    with pytest.raises(BadConfig, match=r"'partiy' \(did you mean 'parity'\?\)"):
        TABLE.suited(of, ["partiy"])
    with pytest.raises(BadConfig, match="allowed: those without cycles: parity,secded,tmr,hardened"):
        TABLE.suited(of, ["vote"])
