"""Checksums as their text says, on whole matrices and in Python's own integers: one fault, one layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.faults.strikes import Strikes

MODULUS = 1 << 32


def dense(strikes: Strikes, fault: int, m: int, n: int, groups: int) -> list[list[list[int]]]:
    """errors[group][row][column] of one fault, modulo 2^32."""
    errors = [[[0] * n for _ in range(m)] for _ in range(groups)]
    for e in range(strikes.ptr[fault], strikes.ptr[fault + 1]):
        group, column = divmod(int(strikes.n[e]), n)
        row = int(strikes.m[e])
        errors[group][row][column] = (errors[group][row][column] + int(strikes.delta[e])) % MODULUS
    return errors


def corrected(errors: list[list[list[int]]], check: str) -> tuple[str, list[list[list[int]]]]:
    """The verdict, and what is wrong after correction, product by product."""
    alarm = stuck = False
    left = []
    for product in errors:
        rows, columns = len(product), len(product[0])
        by_row = [sum(row) % MODULUS if check != "columns" else 0 for row in product]
        by_column = [sum(column) % MODULUS if check != "rows" else 0 for column in zip(*product, strict=True)]
        wrong_rows = [r for r in range(rows) if by_row[r]]
        wrong_columns = [c for c in range(columns) if by_column[c]]
        taken = [[0] * columns for _ in range(rows)]
        only_row = 0 if rows == 1 else wrong_rows[0] if len(wrong_rows) == 1 else None
        only_column = 0 if columns == 1 else wrong_columns[0] if len(wrong_columns) == 1 else None
        if wrong_columns and only_row is not None:
            taken[only_row] = by_column
        elif wrong_rows and only_column is not None:
            for r in range(rows):
                taken[r][only_column] = by_row[r]
        elif wrong_rows or wrong_columns:
            stuck = True
        alarm |= bool(wrong_rows or wrong_columns)
        left.append(
            [
                [(e - t) % MODULUS for e, t in zip(*pair, strict=True)]
                for pair in zip(product, taken, strict=True)
            ]
        )
    return _verdict(anywhere(errors), alarm, stuck, anywhere(left)), left


def anywhere(errors: list[list[list[int]]]) -> bool:
    return any(error for product in errors for row in product for error in row)


def _verdict(wrong: bool, alarm: bool, stuck: bool, still_wrong: bool) -> str:
    if not wrong:
        return "CLEAN"
    if not alarm:
        return "MISSED"
    if stuck:
        return "DETECTED"
    return "MISCORRECTED" if still_wrong else "CORRECTED"


def as_matrix(errors: list[list[list[int]]]) -> npt.NDArray[np.int32]:
    """(m, groups * n) int32, as accumulators are laid out."""
    stacked = np.array(errors, np.uint64).astype(np.uint32).view(np.int32)
    return np.ascontiguousarray(stacked.transpose(1, 0, 2)).reshape(stacked.shape[1], -1)


def strikes_at(places: list[list[tuple[int, int, int]]], **flags: Any) -> Strikes:
    """Faults with these errors (m, n, delta) each."""
    faults = len(places)
    m, n, delta = np.array([error for errors in places for error in errors], np.int64).reshape(-1, 3).T
    nothing, never = np.zeros(faults, np.int64), np.zeros(faults, np.bool_)
    labels = {"at_output": never, "hang": never, "engine": nothing, "before": nothing, "after": nothing}
    return Strikes(
        ptr=np.cumsum([0, *map(len, places)]),
        m=m.astype(np.int32),
        n=n.astype(np.int32),
        delta=delta.astype(np.int32),
        **(labels | flags),
    )
