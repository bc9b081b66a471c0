"""Checksums of real layers: no alarm without a fault, and with one the alarm that its sparse errors promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from dense_corrector import as_matrix, dense
from format_models import FORMATS
from hypothesis import given
from hypothesis import strategies as st
from oracle import saved

from emulator.array.checkpoint import LayerOnCycles
from emulator.array.closed_form import prepare
from emulator.array.cycle import replay_layer
from emulator.array.operands import Operands
from emulator.array.registers import inventory, register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.choices import one_of
from emulator.errors import BadConfig, BadData
from emulator.faults.fault import joined_faults
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strike import of_closed_form, operands
from emulator.faults.strikes import Strikes
from emulator.gemm import GemmShape
from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.harden.checksum import CHECKS, Checksums, expected, found
from emulator.harden.checksum_cost import words_of
from emulator.harden.syndrome import Checked, Verdict, checked, shapes_of


def test_a_layer_without_a_fault_gives_no_alarm(bundled: Any) -> None:
    for image in range(3):
        run = bundled.inference(image)
        for index, layer in enumerate(bundled.network.graph.layers):
            reference = expected(operands(bundled.golden, run, index))
            actual = found(bundled.golden.accumulator(run, index), layer.shape.groups)
            assert reference.rows.any() and reference.columns.any()
            agree(actual, reference, layer.name)


@pytest.mark.parametrize("name", FORMATS)
def test_nor_does_one_of_any_other_format(name: str, tmp_path: Path) -> None:
    """Stacks of two computed operands, raw accumulators, 16-bit activations, weights with a zero point."""
    made = FORMATS[name]()
    golden = Golden(load(saved(made.model, tmp_path)).graph)
    run = golden.run(made.sample)
    for index, layer in enumerate(golden.graph.layers):
        reference = expected(operands(golden, run, index))
        agree(found(golden.accumulator(run, index), layer.shape.groups), reference, layer.name)


def agree(actual: Checksums, reference: Checksums, name: str) -> None:
    np.testing.assert_array_equal(actual.rows, reference.rows, err_msg=name)
    np.testing.assert_array_equal(actual.columns, reference.columns, err_msg=name)
    assert not len(actual.syndromes(reference).wrong_rows.line)


sides = st.integers(1, 5)


@given(st.tuples(sides, sides, sides, sides), st.booleans(), st.sampled_from([np.int8, np.int16]), st.data())
def test_the_sums_are_those_of_a_product_in_pythons_integers(
    size: tuple[int, int, int, int], by_row: bool, kind: type[np.signedinteger[Any]], data: st.DataObject
) -> None:
    """Operands and biases at the ends of their range, so that sums wrap."""
    groups, m, k, n = size
    x = extreme(np.random.default_rng(data.draw(st.integers(0, 1 << 32))), groups, m, k, n, by_row, kind)
    act, wgt, bias = (part.astype(object) for part in (x.act, x.wgt, x.bias))
    total = act @ wgt + (bias if by_row else bias[:, np.newaxis])
    reference = expected(x)
    assert all(d % (1 << 32) == 0 for d in (reference.rows.astype(object) - total.sum(axis=2)).ravel())
    assert all(d % (1 << 32) == 0 for d in (reference.columns.astype(object) - total.sum(axis=1)).ravel())
    whole = as_matrix([[[int(v) % (1 << 32) for v in row] for row in group] for group in total])
    agree(found(whole, groups), reference, "wrapped")


def extreme(
    rng: np.random.Generator,
    groups: int,
    m: int,
    k: int,
    n: int,
    by_row: bool,
    kind: type[np.signedinteger[Any]],
) -> Operands:
    ends = np.iinfo(kind)
    words = [rng.choice([ends.min, ends.max, -1, 3], shape) for shape in ((groups, m, k), (groups, k, n))]
    starts = rng.choice([-(1 << 31), (1 << 31) - 1, 5], (groups, m, n) if by_row else (groups, n))
    return Operands(act=words[0].astype(kind), wgt=words[1].astype(kind), bias=starts.astype(np.int32))


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_whole_checksums_tell_what_sparse_errors_do(digits: Any, dataflow: str) -> None:
    """Faults of every register, their errors added to the golden accumulators: the syndromes of the whole matrix."""
    array = replace(digits.array, dataflow=dataflow)
    rng, run = np.random.default_rng(5), digits.inference(0)
    faults = joined_faults(
        [
            FaultSpace(digits.network, array, registers=[entry.name]).draw(rng, 2)
            for entry in inventory(array)
            if is_live(digits, array, entry.name)
        ]
    )
    strikes = strike(digits.golden, run, array, faults)
    layers = [layer.shape for layer in digits.network.graph.layers]
    verdicts = checked(strikes, shapes_of(layers, faults.layer), "both")
    seen = 0
    for f, layer in enumerate(faults.layer.tolist()):
        if not strikes.at_output[f]:
            seen += same_alarm(digits, run, layer, strikes, f, verdicts)
    assert seen > len(faults) // 3
    assert {Verdict.CLEAN, Verdict.CORRECTED, Verdict.MISSED} <= set(verdicts.verdict.tolist())


def is_live(model: Any, array: ArraySpec, name: str) -> bool:
    try:
        FaultSpace(model.network, array, registers=[name])
    except BadConfig:
        return False
    return True


def same_alarm(model: Any, run: Any, layer: int, strikes: Strikes, f: int, verdicts: Checked) -> bool:
    shape = model.network.graph.layers[layer].shape
    wrong = model.golden.accumulator(run, layer) + as_matrix(
        dense(strikes, f, shape.m, shape.n, shape.groups)
    )
    syndromes = found(wrong, shape.groups).syndromes(expected(operands(model.golden, run, layer)))
    for whole, sparse in (
        (syndromes.wrong_rows, verdicts.rows),
        (syndromes.wrong_columns, verdicts.columns),
    ):
        mine = sparse.fault == f
        for ours, theirs in zip(sparse[1:], whole, strict=True):
            np.testing.assert_array_equal(ours[mine], theirs)
    alarm = bool(syndromes.rows.any() or syndromes.columns.any())
    assert alarm == verdicts.seen[f]
    return alarm


# ---- in the layer's own pass


SHAPE = GemmShape(m=20, k=11, n=9)
# One fold holds all rows and columns.
ONE_FOLD = ArraySpec(name="tiny", rows=4, cols=12, acc_rows=64, act_buffer_rows=128, wgt_buffer_rows=128)


def extended(rng: np.random.Generator) -> tuple[Operands, int, int]:
    """Random operands with their checksums as more columns and rows, in balanced digits of 8 bits; how many of both."""
    act, wgt = (rng.integers(-128, 128, s).astype(np.int8) for s in ((SHAPE.m, SHAPE.k), (SHAPE.k, SHAPE.n)))
    columns, rows = (words_of(count, 8, 8) for count in (SHAPE.n, SHAPE.m))
    more_wgt = digits_of(wgt.sum(axis=1, dtype=np.int64), columns).T
    more_act = digits_of(act.sum(axis=0, dtype=np.int64), rows)
    a, w = np.concatenate((act, more_act)), np.concatenate((wgt, more_wgt), axis=1)
    bias = np.zeros((1, w.shape[1]), np.int32)
    return Operands(act=a[np.newaxis], wgt=w[np.newaxis], bias=bias), rows, columns


def digits_of(sums: npt.NDArray[np.int64], words: int) -> npt.NDArray[np.int8]:
    """(words, sums): sums = sum over i of 256^i digit[i]."""
    digits = []
    for _ in range(words):
        digits.append(sums.astype(np.int8))
        sums = (sums - digits[-1]) >> 8
    assert not sums.any()
    return np.stack(digits)


def own_syndromes(acc: npt.NDArray[Any], rows: int, columns: int) -> tuple[bool, bool]:
    """Is there one of rows, of columns, in a product that carries its own checksums?"""
    product = acc[: SHAPE.m, : SHAPE.n].astype(np.int64)
    by_row = acc[: SHAPE.m, SHAPE.n :].astype(np.int64) @ (256 ** np.arange(columns))
    by_column = (256 ** np.arange(rows)) @ acc[SHAPE.m :, : SHAPE.n].astype(np.int64)
    modulo = 1 << 32
    return bool(((product.sum(axis=1) - by_row) % modulo).any()), bool(
        ((product.sum(axis=0) - by_column) % modulo).any()
    )


def test_the_digits_that_the_cost_counts_give_the_checksums_on_the_array() -> None:
    x, rows, columns = extended(np.random.default_rng(1))
    plan = schedule(ONE_FOLD, x.shape, requantised=False)
    acc = replay_layer(plan, x).accumulator
    assert own_syndromes(acc, rows, columns) == (False, False)
    acc[3, 4] += 1
    assert own_syndromes(acc, rows, columns) == (True, True)


@pytest.mark.parametrize(
    "name, blind",
    [("act_buffer", "rows"), ("skew_a", "rows"), ("wgt_buffer", "columns"), ("buf_d", "columns")],
)
def test_checksums_in_the_same_pass_take_a_wrong_operand_for_the_right_one(name: str, blind: str) -> None:
    """Why the reference must be computed apart: where product and checksum read the same wrong word, they agree."""
    rng = np.random.default_rng(2)
    x, rows, columns = extended(rng)
    plan, struck = schedule(ONE_FOLD, x.shape, requantised=False), register(ONE_FOLD, name)
    golden = replay_layer(plan, x).accumulator
    live = struck.lifetime.count(plan)
    fold = np.repeat(np.arange(len(live)), live)
    within = np.arange(len(fold)) - np.repeat(np.cumsum(live) - live, live)
    some = rng.choice(len(fold), 200, replace=False)
    at = struck.lifetime.site(plan, fold[some], within[some])
    strikes = of_closed_form(prepare(plan, struck, at, fold[some]).errors(x))
    alarms = []
    for f in range(len(some)):
        wrong = golden + as_matrix(dense(strikes, f, x.shape.m, x.shape.n, 1))
        if (wrong[: SHAPE.m, : SHAPE.n] != golden[: SHAPE.m, : SHAPE.n]).any():
            alarms.append(own_syndromes(wrong, rows, columns))
    by_row, by_column = np.array(alarms).T
    unseen, seen = (by_row, by_column) if blind == "rows" else (by_column, by_row)
    assert len(alarms) > 50
    # The other check takes its sums from operands that were right.
    assert not unseen.any() and seen.all()


def test_requant_acc_is_struck_when_the_drain_has_passed(digits: Any) -> None:
    """The cycle engine drains right words: their sums tell nothing, whatever the closed form calls the error."""
    rng, run = np.random.default_rng(3), digits.inference(0)
    faults = FaultSpace(digits.network, digits.array, registers=["requant_acc"], layers=[1]).draw(rng, 8)
    closed = strike(digits.golden, run, digits.array, faults)
    layer = digits.network.graph.layers[1]
    plan = schedule(digits.array, layer.shape)
    engine = LayerOnCycles(plan, operands(digits.golden, run, 1), layer.requantisation)
    assert (np.diff(closed.ptr) == 1).all() and not closed.at_output.any()
    for upset in faults.upsets(digits.array):
        assert not len(engine.strike((upset,)).m)


def test_bad_arguments_get_one_clear_error() -> None:
    with pytest.raises(BadConfig, match="check 'diagonals'; allowed: rows, columns, both"):
        one_of(CHECKS, "diagonals", "check")
    with pytest.raises(BadData, match=r"\(3, 7\) of 2 groups"):
        found(np.zeros((3, 7), np.int32), 2)
