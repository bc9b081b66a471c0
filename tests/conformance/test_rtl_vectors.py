"""The engines give the answers of the Gemmini RTL, fault by fault; the oracle is described in tests/data."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emulator.array.conformance import by_closed_form, by_cycles, check_vectors, rows_of, tally, wrong_golden
from emulator.array.cycle import replay_layer
from emulator.array.registers import inventory
from emulator.array.vectors import Faults, array_of, layer_of, program_of, read_vectors
from emulator.errors import BadData

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "data" / "gemmini16_rtl_vectors.npz"
VECTORS = read_vectors(FILE)
DATA = (
    *("pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2", "buf_a", "buf_b", "buf_d"),
    *("skew_a", "skew_b", "skew_d", "deskew_data", "out_b", "out_c"),
)
CONTROL = ("pe_valid", "pe_propagate")

Arrays = dict[str, npt.NDArray[Any]]


def arrays() -> Arrays:
    with np.load(FILE) as data:
        return dict(data)


def written(folder: Path, content: Arrays) -> Path:
    path = folder / "vectors.npz"
    np.savez(path, **content)
    return path


def chosen(content: Arrays, faults: npt.NDArray[np.int64]) -> Arrays:
    """The file with these faults only, in this order."""
    ptr = content["changed_ptr"]
    entries = np.concatenate([np.arange(*ptr[f : f + 2]) for f in faults])
    return {
        **content,
        "faults": content["faults"][faults],
        "changed_ptr": np.concatenate(([0], np.cumsum(np.diff(ptr)[faults]))),
        "changed_index": content["changed_index"][entries],
        "changed_value": content["changed_value"][entries],
    }


def tool(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "tools" / "check_rtl_vectors", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


# ---- the engines


@pytest.mark.parametrize("program", VECTORS.programs)
def test_the_fault_free_result_is_the_rtls(program: str) -> None:
    assert program not in wrong_golden(VECTORS)


@pytest.mark.parametrize("program", VECTORS.programs)
@pytest.mark.parametrize("name", VECTORS.registers)
def test_both_engines_give_every_rtl_response(name: str, program: str) -> None:
    faults = VECTORS.select(program, name).tolist()
    assert len(faults) >= 60
    pairs = zip(faults, by_cycles(VECTORS, program, faults), strict=True)
    assert [f for f, found in pairs if not np.array_equal(found, VECTORS.answer(f))] == []
    answered, results = by_closed_form(VECTORS, program, name)
    pairs = zip(answered.tolist(), results, strict=True)
    assert [f for f, found in pairs if not np.array_equal(found, VECTORS.answer(f))] == []


def test_together_they_are_all_6080_and_every_register_has_faults_that_show() -> None:
    assert sum(len(VECTORS.select(p, r)) for p in VECTORS.programs for r in VECTORS.registers) == 6080
    shows = np.diff(VECTORS.changed_ptr) > 0
    never = {
        name
        for name in VECTORS.registers
        if not any(shows[VECTORS.select(program, name)].any() for program in VECTORS.programs)
    }
    assert never <= {"pe_shift", "pe_last_s"}
    assert VECTORS.kinds == ("flip", "stuck-at-0", "stuck-at-1")


@pytest.mark.parametrize("name", [*DATA, *CONTROL])
def test_the_closed_form_answers_the_flips_of_the_compute_window(name: str) -> None:
    for program in VECTORS.programs:
        counts = tally(VECTORS, program, name)
        assert counts.compute_window_flips >= 20
        assert counts.closed_form_share is not None and counts.closed_form_share >= 0.9


@pytest.mark.parametrize("program", VECTORS.programs)
def test_a_layer_meets_each_fault_in_the_cycle_in_which_its_program_does(program: str) -> None:
    """Both count from the first row of the preload: that is why the closed form may answer for a program."""
    plan, operands = layer_of(VECTORS, program)
    for name in DATA:
        flips = VECTORS.flips(VECTORS.select(program, name))
        for fault in flips[:: max(len(flips) // 12, 1)].tolist():
            found = replay_layer(plan, operands, (VECTORS.upset(fault),)).accumulator
            assert np.array_equal(rows_of(plan, found), VECTORS.answer(fault)), VECTORS.upset(fault)


@pytest.mark.parametrize("program", VECTORS.programs)
def test_the_closed_form_of_the_layer_is_the_programs_for_other_operands_and_faults(program: str) -> None:
    rng, count, checked = np.random.default_rng(9), 30, 0
    entries = [entry for entry in inventory(array_of(program)) if entry.total_bits]
    operands = {
        name: rng.integers(-128, 128, x.shape).astype(np.int8) for name, x in VECTORS.operands.items()
    }
    vectors = replace(VECTORS, operands=operands, registers=tuple(entry.name for entry in entries))
    last = len(program_of(vectors, program).act) + 36
    for code, entry in enumerate(entries):
        place = entry.place(rng.integers(0, entry.total_bits, count))
        which, struck = np.full((2, count), [[VECTORS.programs.index(program)], [code]])
        kind = rng.integers(0, 3, count)
        # A stuck-at holds from the start.
        cycle = np.where(kind == 0, rng.integers(0, last, count), 0)
        vectors = replace(vectors, faults=Faults(which, struck, *place, kind, cycle))
        faults, results = by_closed_form(vectors, program, entry.name)
        both = zip(faults, by_cycles(vectors, program, faults.tolist()), results, strict=True)
        for fault, found, formed in both:
            assert np.array_equal(found, formed), vectors.upset(fault)
        checked += len(faults)
    assert checked >= 500


# ---- what is not the RTL's answer is noticed


@pytest.mark.parametrize("program", VECTORS.programs)
def test_one_changed_value_is_a_mismatch_of_both_engines(tmp_path: Path, program: str) -> None:
    content = arrays()
    fault = next(f for f in VECTORS.select(program, "pe_a") if np.diff(VECTORS.changed_ptr)[f] > 0)
    content["changed_value"][VECTORS.changed_ptr[fault]] ^= 1
    counts = tally(read_vectors(written(tmp_path, content)), program, "pe_a")
    assert (counts.cycle_mismatches, counts.closed_form_mismatches, counts.mismatches) == (1, 1, 1)


@pytest.mark.parametrize(
    ("array", "program"), [("W", "ws_reuse3"), ("D", "ws_chain3"), ("OS_B", "os_k32_shift5")]
)
def test_one_changed_operand_is_a_mismatch_of_every_fault_and_of_the_golden_result(
    tmp_path: Path, array: str, program: str
) -> None:
    content = arrays()
    content[array][0, 3, 5] ^= 0x40
    vectors = read_vectors(written(tmp_path, content))
    assert program in wrong_golden(vectors)
    counts = tally(vectors, program, "pe_b")
    assert counts.cycle_mismatches == counts.closed_form_mismatches == counts.mismatches == counts.checked


def test_a_changed_golden_result_is_a_mismatch(tmp_path: Path) -> None:
    content = arrays()
    content["golden_os_k16"][4, 4] += 1
    assert wrong_golden(read_vectors(written(tmp_path, content))) == ["os_k16"]


def test_a_row_that_was_never_written_is_no_number(tmp_path: Path) -> None:
    content = arrays()
    lost = np.flatnonzero(content["changed_value"] == -999999)
    content["changed_value"][lost] = 0
    counts = check_vectors(read_vectors(written(tmp_path, content)))
    faults = np.unique(np.searchsorted(content["changed_ptr"], lost, side="right"))
    assert counts["mismatches"] == counts["engines"]["cycle"]["mismatches"] == len(faults) > 0


# ---- the tool


def test_the_tool_counts_every_fault_from_any_folder(tmp_path: Path) -> None:
    done = tool(FILE, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["checked"], counts["mismatches"]) == (6080, 0)
    assert counts["engines"]["cycle"] == {"checked": 6080, "mismatches": 0}
    parts = counts["by_register"]
    assert set(parts) == set(VECTORS.registers)
    formed = sum(part["closed_form"] for part in parts.values())
    assert counts["engines"]["closed-form"] == {"checked": formed, "mismatches": 0}
    assert sum(part["checked"] for part in parts.values()) == 6080
    for name in (*DATA, *CONTROL):
        assert parts[name]["closed_form_share"] >= 0.9
        assert parts[name]["closed_form"] >= 0.9 * parts[name]["compute_window_flips"] > 100


def test_the_tool_takes_any_choice_and_order_and_tells_the_wrong_register(tmp_path: Path) -> None:
    content = arrays()
    registers = ["deskew_data", "pe_valid", "pe_a"]
    programs = ["os_k16", "ws_reuse3"]
    columns = ["cycle", "bit", "kind", "program", "col", "register", "row"]
    names = {"program": content["programs"].tolist(), "register": content["registers"].tolist()}
    table = dict(zip(content["fault_columns"].tolist(), content["faults"].T.astype(np.int64), strict=True))
    keep = np.isin(table["program"], [names["program"].index(p) for p in programs])
    keep &= np.isin(table["register"], [names["register"].index(r) for r in registers])
    kept = chosen(content, np.flatnonzero(keep)[::-1])
    table = {name: column[keep][::-1] for name, column in table.items()}
    table["program"] = np.array([programs.index(names["program"][code]) for code in table["program"]])
    table["register"] = np.array([registers.index(names["register"][code]) for code in table["register"]])
    table["kind"] = 2 - table["kind"]
    small = {
        **{name: kept[name] for name in ("changed_ptr", "changed_index", "changed_value")},
        **{name: kept[name] for name in ("W", "A", "D", "OS_A", "OS_B", "OS_D")},
        **{f"golden_{name}": kept[f"golden_{name}"] for name in programs},
        "faults": np.stack([table[name] for name in columns], axis=1),
        "fault_columns": np.array(columns),
        "programs": np.array(programs),
        "registers": np.array(registers),
        "kinds": np.array(["stuck_at_1", "stuck_at_0", "flip"]),
    }
    counts = check_vectors(read_vectors(written(tmp_path, small)))
    assert list(counts["by_register"]) == registers
    assert (counts["checked"], counts["mismatches"]) == (int(keep.sum()), 0)

    small["changed_value"][-1] ^= 1
    done = tool(written(tmp_path, small))
    assert done.returncode == 1
    assert f"{int(keep.sum())} faults checked, 1 mismatches" in done.stdout


def test_a_file_without_the_programs_of_a_dataflow_needs_none_of_its_operands(tmp_path: Path) -> None:
    content = arrays()
    content = chosen(content, np.flatnonzero(content["faults"][:, 0] < 2)[:50])
    content["programs"] = content["programs"][:2]
    for name in ("OS_A", "OS_B", "OS_D", "golden_os_k16", "golden_os_k32_shift5"):
        del content[name]
    assert check_vectors(read_vectors(written(tmp_path, content)))["mismatches"] == 0


def with_fault(content: Arrays, column: str, value: int) -> Arrays:
    content["faults"][7, content["fault_columns"].tolist().index(column)] = value
    return content


def without(content: Arrays, name: str) -> Arrays:
    return {key: array for key, array in content.items() if key != name}


WRONG = {
    "no operands": lambda x: without(x, "OS_B"),
    "no faults": lambda x: without(x, "faults"),
    "no golden result": lambda x: without(x, "golden_os_k16"),
    "operands of another shape": lambda x: {**x, "W": x["W"][:2]},
    "operands of another width": lambda x: {**x, "A": x["A"].astype(np.int16) + 200},
    "operands that are no integers": lambda x: {**x, "D": x["D"].astype(np.float32)},
    "golden result of another shape": lambda x: {**x, "golden_ws_chain3": x["golden_ws_chain3"][:16]},
    "faults without a column": lambda x: {**x, "faults": x["faults"][:, 1:]},
    "another column": lambda x: {**x, "fault_columns": np.array([*x["fault_columns"][:6], "when"])},
    "a column less": lambda x: {**x, "fault_columns": x["fault_columns"][:6], "faults": x["faults"][:, :6]},
    "unknown program": lambda x: {**x, "programs": np.array([*x["programs"][:3], "os_k64"])},
    "unknown register": lambda x: {**x, "registers": np.array(["pe_e", *x["registers"][1:]])},
    "unknown kind": lambda x: {**x, "kinds": np.array(["flip", "stuck_at_0", "stuck"])},
    "a name twice": lambda x: {**x, "kinds": np.array(["flip", "flip", "stuck_at_1"])},
    "no names": lambda x: {**x, "programs": np.array([], "U8")},
    "names that are numbers": lambda x: {**x, "registers": np.arange(22)},
    "a program code out of range": lambda x: with_fault(x, "program", 4),
    "a register code out of range": lambda x: with_fault(x, "register", 22),
    "a kind code out of range": lambda x: with_fault(x, "kind", -1),
    "a row outside": lambda x: with_fault(x, "row", 16),
    "a bit outside": lambda x: with_fault(x, "bit", 33),
    "a cycle before the start": lambda x: with_fault(x, "cycle", -1),
    "a pointer too few": lambda x: {**x, "changed_ptr": x["changed_ptr"][:-1]},
    "pointers that fall": lambda x: {**x, "changed_ptr": x["changed_ptr"][::-1]},
    "an index beyond the result": lambda x: {**x, "changed_index": x["changed_index"] + 700},
    "a value too few": lambda x: {**x, "changed_value": x["changed_value"][1:]},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_of_another_format_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(BadData, match=r"vectors\.npz: .*; allowed: .*\. Write it in the format"):
        read_vectors(written(tmp_path, WRONG[wrong](arrays())))


@pytest.mark.parametrize("size", [0, 1, 1000, FILE.stat().st_size // 2, FILE.stat().st_size - 1])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "vectors.npz"
    path.write_bytes(FILE.read_bytes()[:size])
    with pytest.raises(BadData, match=r"not read .*; allowed: an npz file of plain arrays\. Write"):
        read_vectors(path)


def test_the_tool_says_in_one_line_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npz"
    path.write_bytes(FILE.read_bytes()[:4096])
    for file in (path, tmp_path / "missing.npz"):
        done = tool(file, "--json")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {file}: ") and "allowed: an npz file" in done.stderr
        assert len(done.stderr.splitlines()) == 1
