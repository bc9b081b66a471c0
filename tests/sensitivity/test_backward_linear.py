"""Gradient rules of matrix products."""

from __future__ import annotations

import numpy as np
import pytest
from derivative import check, network, random
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import UnsupportedModel
from emulator.sensitivity.backward import gradient_model

FEW = settings(max_examples=12)
MORE = settings(max_examples=40)


@MORE
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (1,), (3,), (1, 3), (2, 1), (2, 3)]),
)
def test_gemm(m: int, k: int, n: int, flip_a: bool, flip_b: bool, bias: tuple[int, ...]) -> None:
    bias = tuple(size if size == 1 else (m, n)[2 - len(bias) + axis] for axis, size in enumerate(bias))
    inputs = {
        "a": random(*((k, m) if flip_a else (m, k)), seed=1),
        "b": random(*((n, k) if flip_b else (k, n)), seed=2),
        "c": random(*bias, seed=3),
    }
    check("Gemm", inputs, alpha=0.7, beta=1.3, transA=int(flip_a), transB=int(flip_b))


@FEW
@given(st.sampled_from([((), ()), ((2,), ()), ((), (2,)), ((2, 3), (1, 3)), ((1,), (2, 3)), ((2, 1), (3,))]))
def test_matmul(batches: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    check("MatMul", {"a": random(*batches[0], 2, 3, seed=1), "b": random(*batches[1], 3, 4, seed=2)})


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((2, 5, 3), (3,)), ((3,), (2, 5, 3, 4))],
    ids=repr,
)
def test_matmul_with_a_vector(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check("MatMul", {"a": random(*a, seed=1), "b": random(*b, seed=2)})


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bhqd, bhkd -> bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("i,j", [(2,), (3,)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ijk,k->j", [(2, 3, 4), (4,)]),
        ("ij,ik,jk->", [(2, 3), (2, 4), (3, 4)]),
        ("ij->ji", [(2, 3)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = {f"x{index}": random(*shape, seed=index) for index, shape in enumerate(shapes)}
    check("Einsum", inputs, equation=equation)


@pytest.mark.parametrize("equation", ["ii->i", "...i->i"])
def test_einsum_with_a_diagonal_or_an_ellipsis_is_refused(equation: str) -> None:
    x = {"x": random(3, 3)}
    model = network([("Einsum", "x", "y", {"equation": equation})], x, {}, np.float32)
    with pytest.raises(UnsupportedModel, match=r"Einsum \(node 'node'\): equation"):
        gradient_model(model, ["x"], loss="seed")
