"""Pilot images stand for all that are answered rightly, and most of them have a low margin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.harden.pilots import pilots_of


def bench_of(margins: list[float]) -> Any:
    return cast(Any, SimpleNamespace(margins=np.array(margins), images=len(margins)))


@given(
    margins=st.lists(st.integers(0, 200), min_size=1, max_size=120),
    count=st.integers(1, 40),
    data=st.data(),
)
def test_each_right_image_is_stood_for_once(margins: list[int], count: int, data: st.DataObject) -> None:
    images = list(range(len(margins)))
    right = sorted(data.draw(st.sets(st.sampled_from(images), min_size=1)))
    pilots = pilots_of(bench_of([float(m) for m in margins]), right, count)
    assert len(set(pilots.image.tolist())) == len(pilots.image) == min(count, len(right))
    assert set(pilots.image.tolist()) <= set(right)
    np.testing.assert_allclose(pilots.share.sum(), len(right) / len(images))
    assert (pilots.share > 0).all()
    assert (np.diff([margins[i] for i in pilots.image]) >= 0).all()


def test_strata_are_counted_by_hand() -> None:
    # 16 images in 4 strata of 1, 3, 5 and 7 by margin: the middle of each, from the least margin on.
    margins = list(range(16))[::-1]
    pilots = pilots_of(bench_of([float(m) for m in margins]), range(16), 4)
    assert [margins[i] for i in pilots.image] == [0, 2, 6, 12]
    np.testing.assert_allclose(pilots.share * 16, [1, 3, 5, 7])


def test_as_many_pilots_as_images_are_all_of_them() -> None:
    pilots = pilots_of(bench_of([3.0, 1.0, 2.0]), [0, 1, 2], 32)
    assert pilots.image.tolist() == [1, 2, 0]
    np.testing.assert_allclose(pilots.share, 1 / 3)
