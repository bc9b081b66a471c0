"""Faults of many images struck together against each of them struck alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emulator.faults import salvo
from emulator.faults.fault import joined_faults
from emulator.faults.salvo import Salvo, strike
from emulator.faults.space import FaultSpace
from emulator.faults.strikes import Strikes

REGISTERS = [
    "pe_a",
    "pe_b",
    "pe_c1",
    "pe_valid",
    "accumulator",
    "act_buffer",
    "wgt_buffer",
    "out_valid",
    "deskew_data",
]
IMAGES = 3


def fields(strikes: Strikes, fault: int) -> list[Any]:
    part = slice(strikes.ptr[fault], strikes.ptr[fault + 1])
    errors = [getattr(strikes, name)[part].tolist() for name in ("m", "n", "delta")]
    return errors + [
        getattr(strikes, name)[fault] for name in ("before", "after", "at_output", "hang", "engine")
    ]


@pytest.mark.parametrize("volley", [1, 7, 2048])
def test_a_salvo_is_its_faults_one_by_one(digits: Any, volley: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvo, "VOLLEY", volley)
    rng = np.random.default_rng(volley)
    spaces = [FaultSpace(digits.network, digits.array, registers=[name]) for name in REGISTERS]
    batches = [space.draw(rng, 15) for space in spaces]
    faults = joined_faults(batches)
    mixed = rng.permutation(len(faults))
    faults, image = faults[mixed], rng.integers(0, IMAGES, len(faults))
    inferences = [digits.inference(i) for i in range(IMAGES)]
    together, seen = Salvo(digits.golden, digits.array, faults, image), 0
    for part in together.volleys:
        assert len(part.place) <= volley and (np.diff(part.place) > 0).all()
        assert (image[part.place] == part.image).all()
        strikes = together.strike(inferences[part.image], part)
        for fault, place in enumerate(part.place.tolist()):
            alone = strike(digits.golden, inferences[part.image], digits.array, faults[np.array([place])])
            assert fields(strikes, fault) == fields(alone, 0)
            seen += 1
    assert seen == len(faults)
