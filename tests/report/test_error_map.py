"""The map of a fault's errors: each error in its cell and colour, fold boundaries where the schedule has them."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emulator.array.spec import ArraySpec, Dataflow
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import Kind, Upset
from emulator.campaign.explain import Explanation
from emulator.errors import BadConfig
from emulator.faults.fault import Fault
from emulator.gemm import GemmShape
from emulator.report.figures.error_map import error_map
from emulator.report.figures.files import save_figure


def plan_of(shape: GemmShape, dataflow: Dataflow = "ws") -> Schedule:
    return schedule(ArraySpec(rows=4, cols=4, psum_bits=18, acc_rows=16, dataflow=dataflow), shape)


def explained(
    errors: list[tuple[int, int, int]],
    plan: Schedule,
    *,
    due: bool = False,
    at_output: bool = False,
    kind: Kind = "flip",
    until: int | None = None,
) -> Explanation:
    m, n, delta = np.array(errors, np.int64).reshape(-1, 3).T
    upset = Upset(register="pe_a", row=3, col=2, bits=(6, 7), kind=kind, cycle=40, until_cycle=until)
    logits = np.zeros(10, np.float32)
    return Explanation(
        fault=Fault(layer=1, upset=upset),
        image=5,
        layer_name="conv2",
        live=True,
        engine="cycle",
        before=None,
        after=None,
        m=m,
        n=n,
        delta=delta,
        at_output=at_output,
        corrupted_outputs=len(m),
        masked_at="none",
        due=due,
        sdc1=False,
        tie=False,
        top1_golden=0,
        top1_faulty=0,
        real_golden=logits,
        real_faulty=logits,
        plan=plan,
    )


def cells(ax: Axes) -> dict[tuple[int, int], float]:
    """Coloured cells by their place in the layer, as drawn."""
    (image,) = ax.images
    values = np.ma.masked_invalid(image.get_array())
    left, _, _, top = image.get_extent()
    rows, cols = np.nonzero(~np.ma.getmaskarray(values))
    return {
        (int(r + top + 0.5), int(c + left + 0.5)): float(values[r, c])
        for r, c in zip(rows, cols, strict=True)
    }


def lines(ax: Axes) -> tuple[set[float], set[float]]:
    """Where horizontal and vertical lines are."""
    at = [np.array(line.get_data()) for line in ax.lines]
    across = {float(y[0]) for x, y in at if y[0] == y[1]}
    return across, {float(x[0]) for x, y in at if x[0] == x[1]}


ERRORS = [(0, 0, 1), (3, 2, -1), (9, 5, 1 << 12), (11, 6, -(1 << 20)), (11, 0, -(1 << 31))]
SHAPE = GemmShape(m=12, k=5, n=7)


def test_every_error_is_in_its_cell_with_its_sign_and_its_power_of_two() -> None:
    drawn = cells(error_map(explained(ERRORS, plan_of(SHAPE))))
    assert drawn == {(0, 0): 1.0, (3, 2): -1.0, (9, 5): 13.0, (11, 6): -21.0, (11, 0): -32.0}


def test_even_an_error_of_one_is_told_from_none_and_from_its_opposite() -> None:
    ax = error_map(explained(ERRORS, plan_of(SHAPE)))
    (image,) = ax.images
    plus, minus, none = (image.to_rgba(np.ma.masked_invalid([value]))[0] for value in (1.0, -1.0, np.nan))
    assert all(np.abs(a - b).max() > 0.1 for a, b in ((plus, minus), (plus, none), (minus, none)))


@pytest.mark.parametrize(
    ("dataflow", "across", "along"),
    [
        # Half the accumulator, 8 rows, to a block; 4 columns to a fold.
        ("ws", {7.5}, {3.5}),
        # 4 x 4 tiles.
        ("os", {3.5, 7.5}, {3.5}),
        # The operands exchanged: 4 rows to a fold, and all 7 columns fit half the accumulator.
        ("is", {3.5, 7.5}, set()),
    ],
)
def test_lines_are_where_folds_begin(dataflow: Dataflow, across: set[float], along: set[float]) -> None:
    assert lines(error_map(explained(ERRORS, plan_of(SHAPE, dataflow)))) == (across, along)


def test_groups_lie_beside_each_other() -> None:
    shape = GemmShape(m=3, k=5, n=2, groups=3)
    ax = error_map(explained([(2, 5, 4)], plan_of(shape)))
    assert cells(ax) == {(2, 5): 3.0}
    assert lines(ax)[1] == {1.5, 3.5}
    assert ax.get_xlabel() == "output column n (of 6)"


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ([(500, 3)], (468, 532)),
        ([(0, 3)], (0, 64)),
        ([(999, 3)], (936, 1000)),
        ([(100, 0), (400, 4)], (100, 401)),
    ],
)
def test_of_a_large_layer_the_part_around_the_errors_is_shown(
    found: list[tuple[int, int]], shown: tuple[int, int]
) -> None:
    ax = error_map(explained([(m, n, 5) for m, n in found], plan_of(GemmShape(m=1000, k=4, n=5))))
    bottom, top = ax.get_ylim()
    assert (top + 0.5, bottom + 0.5) == shown
    assert set(cells(ax)) == set(found)


def test_a_masked_fault_and_a_hang_are_drawn_too() -> None:
    texts = []
    for due in (False, True):
        ax = error_map(explained([], plan_of(SHAPE), due=due))
        assert cells(ax) == {}
        texts.append(ax.texts[0].get_text())
    assert texts == ["nothing is wrong", "nothing comes out"]


def test_the_title_says_which_fault_it_is() -> None:
    flip = error_map(explained(ERRORS, plan_of(SHAPE))).get_title(loc="left")
    assert flip == "flip of bit 6,7 in pe_a[3, 2], cycle 40\nlayer 1 (conv2), input 5: 5 accumulators wrong"
    written = explained(ERRORS, plan_of(SHAPE), at_output=True)
    assert "5 requantised words wrong" in error_map(written).get_title(loc="left")
    stuck = explained(ERRORS, plan_of(SHAPE), kind="stuck-at-1", until=50)
    assert "stuck-at-1 of bit 6,7 in pe_a[3, 2], cycle 40 to 50" in error_map(stuck).get_title(loc="left")


def test_it_is_a_pure_function_that_leaves_matplotlib_alone() -> None:
    explanation, settings = explained(ERRORS, plan_of(SHAPE)), dict(mpl.rcParams)
    own = Figure().add_subplot()
    assert error_map(explanation, ax=own) is own
    files = []
    for _ in range(2):
        file = io.BytesIO()
        error_map(explanation).get_figure(root=True).savefig(file, format="png")  # type: ignore[union-attr]
        files.append(file.getvalue())
    assert files[0] == files[1]
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_figure_is_written_the_same_each_time(ending: str, magic: bytes, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for file in files:
        save_figure(error_map(explained(ERRORS, plan_of(SHAPE))), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("name", "words"), [("a.bmp", ".png, .svg, .pdf"), ("a", ".png"), ("nowhere/a.png", "can't be written")]
)
def test_another_ending_or_folder_is_refused(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=words):
        save_figure(error_map(explained(ERRORS, plan_of(SHAPE))), tmp_path / name)


def test_a_layer_of_one_row_has_one_whole_number_on_its_axis_and_lines_have_a_name() -> None:
    axes = error_map(explained([(0, 2, 3)], plan_of(GemmShape(m=1, k=8, n=16))))
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    assert axes.get_yticks().tolist() == [0]
    assert axes.get_title(loc="left").endswith("1 accumulator wrong")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["boundary of folds"]
    whole = error_map(explained([(0, 2, 3)], plan_of(GemmShape(m=1, k=4, n=4))))
    assert whole.get_legend() is None
