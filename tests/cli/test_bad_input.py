"""Whatever is wrong gives one error on stderr, its documented exit code, and touches nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from onnx import helper
from typer.testing import CliRunner

from emulator.cli.terminal import command, show_json
from emulator.errors import CheckFailed

Emulator = Callable[..., Any]

USAGE, MODEL, DATA = 2, 3, 4
MODELS = Path(__file__).parents[2] / "models"
FAULT = "layer=conv1 register=pe_b row=3 col=2 cycle=40 bit=7"


@pytest.fixture(scope="module")
def spoilt(place: Path) -> Path:
    """`place` with broken models, data, configurations and arrays beside the good ones."""
    _spoil_models(place)
    _spoil_data(place)
    good = f'model = "{place}/model.onnx"\ninputs = "{place}/test.npz"\n'
    (place / "key.toml").write_text(good + "trails = 100\n", encoding="utf-8")
    (place / "value.toml").write_text(good + 'trials = "many"\n', encoding="utf-8")
    (place / "syntax.toml").write_text("model = \n", encoding="utf-8")
    (place / "array.toml").write_text("rwos = 8\n", encoding="utf-8")
    (place / "narrow.toml").write_text("psum_bits = 16\n", encoding="utf-8")
    return place


def _spoil_models(place: Path) -> None:
    data = (place / "model.onnx").read_bytes()
    (place / "half.onnx").write_bytes(data[: len(data) // 2])
    (place / "text.onnx").write_text("not a model", encoding="utf-8")
    (place / "empty.onnx").write_bytes(b"")
    model = onnx.load_model_from_string(data)
    nodes = model.graph.node
    flatten = next(i for i, node in enumerate(nodes) if node.op_type == "Flatten")
    odd = helper.make_node(
        "Enhance", [nodes[flatten].input[0]], ["odd_out"], name="odd_one", domain="film.noir"
    )
    nodes[flatten].input[0] = "odd_out"
    nodes.insert(flatten, odd)
    model.opset_import.append(helper.make_opsetid("film.noir", 1))
    onnx.save(model, place / "foreign.onnx")
    shutil.copy(MODELS / "digits/digits_cnn_float.onnx", place / "float.onnx")


def _spoil_data(place: Path) -> None:
    with np.load(place / "test.npz") as data:
        inputs, labels = data["inputs"][:30], data["labels"][:30]
    holed = inputs.copy()
    holed[3, 0, 0, 0] = np.nan
    np.savez(place / "shape.npz", inputs=inputs[:, :, :4])
    np.savez(place / "dtype.npz", inputs=inputs.astype(np.float64))
    np.savez(place / "nan.npz", inputs=holed)
    np.savez(place / "named.npz", pictures=inputs)
    np.savez(place / "labels.npz", inputs=inputs, labels=labels[:3])
    np.savez(place / "none.npz", inputs=inputs[:0])
    (place / "text.npz").write_text("not an archive", encoding="utf-8")


def refused(emulator: Emulator, code: int, words: list[str], *arguments: object) -> None:
    answer = emulator(*arguments)
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert answer.err.count("error: ") == 1
    assert "Traceback" not in answer.err
    assert [word for word in words if word not in answer.err] == []


@pytest.mark.parametrize("command", ["inspect", "check", "inject", "rank", "run"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.onnx", ["absent.onnx", "not a file"]),
        ("text.onnx", ["text.onnx", "can't be read as ONNX"]),
        ("half.onnx", ["half.onnx", "can't be read as ONNX"]),
        ("empty.onnx", ["empty.onnx"]),
        ("foreign.onnx", ["Enhance", "'odd_one'", "film.noir", "allowed"]),
    ],
)
def test_a_bad_model(command: str, name: str, words: list[str], spoilt: Path, emulator: Emulator) -> None:
    needs = {"inject": ("--fault", FAULT), "run": ("-o", spoilt / "runs/never")}.get(command, ())
    data = () if command in ("inspect", "check") else ("--inputs", spoilt / "test.npz")
    refused(emulator, MODEL, words, command, spoilt / name, *data, *needs)
    assert not (spoilt / "runs/never").exists()


@pytest.mark.parametrize("command", ["inspect", "inject", "rank", "run"])
def test_a_float_model_is_not_run_as_it_is(command: str, spoilt: Path, emulator: Emulator) -> None:
    """`check` quantises it first, and says so."""
    words = ["no integer MAC layer", "allowed", "emulator quantize"]
    test_a_bad_model(command, "float.onnx", words, spoilt, emulator)


@pytest.mark.parametrize("command", ["check", "inject", "rank", "run"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.npz", ["absent.npz", "not a file"]),
        ("text.npz", ["text.npz", "can't be read as npz"]),
        ("shape.npz", ["(30, 1, 4, 8)", "(samples, 1, 8, 8)"]),
        ("dtype.npz", ["float64", "float32"]),
        ("nan.npz", ["sample 3", "NaN"]),
        ("named.npz", ["pictures", "'input' or 'inputs'"]),
        ("labels.npz", ["labels", "(3,)"]),
        ("none.npz", ["(0, 1, 8, 8)", "at least one sample"]),
    ],
)
def test_bad_data(command: str, name: str, words: list[str], spoilt: Path, emulator: Emulator) -> None:
    needs = {"inject": ("--fault", FAULT), "run": ("-o", spoilt / "runs/never")}.get(command, ())
    refused(emulator, DATA, words, command, spoilt / "model.onnx", "--inputs", spoilt / name, *needs)
    assert not (spoilt / "runs/never").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "key.toml"], ["key.toml", "unknown key 'trails'", "did you mean 'trials'"]),
        (["run", "value.toml"], ["value.toml", "trials = 'many'"]),
        (["run", "syntax.toml"], ["syntax.toml", "not TOML"]),
        (["run", "absent.toml"], ["absent.toml", "not a file"]),
        (["run", "model.onnx"], ["--inputs"]),
    ],
)
def test_a_bad_configuration(
    arguments: list[str], words: list[str], spoilt: Path, emulator: Emulator
) -> None:
    refused(emulator, USAGE, words, arguments[0], spoilt / arguments[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--registers", "pe_x"],
            ["'pe_x'", "did you mean 'pe_", "pe_a, pe_b, pe_d, ... (all: `"],
        ),
        (["--layers", "conv9"], ["'conv9'", "0=conv1, 1=conv2, 2=fc"]),
        (["--array", "gemini-16"], ["'gemini-16'", "did you mean 'gemmini-16'"]),
        (["--sampler", "magic"], ["'magic'", "'importance', 'sweep', 'uniform'"]),
        (["--kind", "stuck-at-0"], ["'stuck-at-0'", "'flip'"]),
        (["--workers", "many"], ["'many'", "'auto'"]),
        (["--trials", "0"], ["trials = 0"]),
        (["--until-ci", "0.7"], ["until_ci = 0.7"]),
        (["--max-time", "0"], ["max_time = 0"]),
        (["--max-time", "inf"], ["max_time = inf"]),
        (["--min-critical", "0"], ["min_critical = 0"]),
        (["--min-critical", "9", "--sampler", "exhaustive"], ["'exhaustive'", "min_critical", "remove it"]),
    ],
)
def test_a_bad_option_of_run(options: list[str], words: list[str], spoilt: Path, emulator: Emulator) -> None:
    inputs = ("--inputs", spoilt / "test.npz", "-o", spoilt / "runs/never")
    refused(emulator, USAGE, words, "run", spoilt / "model.onnx", *inputs, *options)
    assert not (spoilt / "runs/never").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("array.toml", ["'rwos'", "did you mean 'rows'"]),
        ("absent.toml", ["absent.toml"]),
    ],
)
def test_a_bad_array(name: str, words: list[str], spoilt: Path, emulator: Emulator) -> None:
    refused(emulator, USAGE, words, "inspect", spoilt / "model.onnx", "--array", spoilt / name)


def test_an_array_on_which_networks_are_not_exact(spoilt: Path, emulator: Emulator) -> None:
    command = (
        "rank",
        spoilt / "model.onnx",
        "--inputs",
        spoilt / "test.npz",
        "--array",
        spoilt / "narrow.toml",
    )
    refused(emulator, USAGE, ["psum_bits=16", "psum_bits from 20"], *command)


@pytest.mark.parametrize(
    ("fault", "options", "words"),
    [
        (FAULT, ["--engine", "fast"], ["'fast'", "closed-form, cycle"]),
        (FAULT, ["--index", "500"], ["500", "0 to 499"]),
        ("layer=0 bit=3", [], ["without col, cycle, register, row", "layer, register, row, col, cycle, bit"]),
        (
            FAULT.replace("register", "registre"),
            [],
            ["no key 'registre' (did you mean 'register'?)", "without register"],
        ),
        ("dead-pe row=1 column=2", [], ["no key 'column'", "without col", "exactly row, col"]),
        (FAULT.replace("conv1", "conv9"), [], ["'conv9'", "0=conv1"]),
        (FAULT.replace("pe_b", "pe_x"), [], ["'pe_x'", "pe_b"]),
        (FAULT.replace("row=3", "row=16"), [], ["row=16", "0 to 15"]),
        (FAULT.replace("bit=7", "bit=20"), [], ["bit=20", "0 to 19"]),
        (FAULT.replace("cycle=40", "cycle=100000"), [], ["cycle=100000"]),
        (FAULT.replace("cycle=40", "cycle=-1"), [], ["cycle"]),
        (FAULT.replace("cycle=40", "cycle=soon"), [], ["whole numbers"]),
    ],
)
def test_a_bad_fault(
    fault: str, options: list[str], words: list[str], spoilt: Path, emulator: Emulator
) -> None:
    command = ("inject", spoilt / "model.onnx", "--inputs", spoilt / "test.npz", "--fault", fault)
    refused(emulator, USAGE, words, *command, *options)


@pytest.mark.parametrize(
    ("fault_id", "words"),
    [
        ("xyz", ["'xyz'", "not among the 1,000 trials"]),
        ("f" * 30, ["fault_id, e.g. ", "emulator inject`"]),
        ("", ["''"]),
    ],
)
def test_a_bad_fault_id(fault_id: str, words: list[str], spoilt: Path, emulator: Emulator) -> None:
    refused(emulator, USAGE, words, "replay", spoilt / "runs/a", fault_id)


@pytest.mark.parametrize("command", ["status", "report", "replay"])
def test_a_directory_without_a_campaign(command: str, spoilt: Path, emulator: Emulator) -> None:
    needs = ["1"] if command == "replay" else []
    refused(emulator, USAGE, ["not a campaign directory"], command, spoilt, *needs)
    refused(emulator, USAGE, ["not a campaign directory"], command, spoilt / "absent", *needs)


def test_with_json_an_error_is_an_object_too(spoilt: Path, emulator: Emulator) -> None:
    answer = emulator("status", spoilt / "absent", "--json")
    assert answer.code == USAGE and answer.err.count("error: ") == 1
    found = json.loads(answer.out)
    assert found == {"error": answer.err.strip().removeprefix("error: "), "exit_code": USAGE}


def test_a_failed_check_is_one_object() -> None:
    app = typer.Typer()

    @app.command()
    @command
    def check(json: bool = True) -> None:
        show_json({"found": 1})
        raise CheckFailed("a difference")

    answer = CliRunner().invoke(app, [])
    assert (answer.exit_code, json.loads(answer.stdout)) == (1, {"found": 1})


def test_a_report_goes_into_a_folder_that_is_there(spoilt: Path, tmp_path: Path, emulator: Emulator) -> None:
    refused(emulator, USAGE, ["is not a folder"], "report", spoilt / "runs/a", "-o", tmp_path / "none/r.html")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("arguments", [["paint"], ["run", "--tirals", "5"], ["inspect"], ["replay", "x"]])
def test_bad_usage(arguments: list[str], emulator: Emulator) -> None:
    answer = emulator(*arguments)
    assert answer.code == USAGE
    assert "Usage: " in answer.err


# ---- nothing overwritten


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--limit", "20", "--seed", "5"], ["another campaign", "seed: stored 0, new 5"]),
        (["--limit", "30"], ["another campaign", "inputs.samples: stored 20, new 30"]),
        (["--limit", "20", "--registers", "pe_b"], ["another campaign", "registers"]),
        (["--limit", "20", "--array", "gemmini-8"], ["another campaign", "array.rows: stored 16, new 8"]),
        (["--limit", "20", "--sampler", "uniform"], ["another campaign", "sampler.name"]),
    ],
)
def test_the_directory_of_another_campaign(
    options: list[str], words: list[str], spoilt: Path, emulator: Emulator
) -> None:
    before = contents(spoilt / "runs/a")
    inputs = ("--inputs", spoilt / "test.npz", "--trials", 1000, "--workers", 1, "-o", spoilt / "runs/a")
    refused(emulator, USAGE, words, "run", spoilt / "model.onnx", *inputs, *options)
    assert contents(spoilt / "runs/a") == before


def test_a_directory_of_something_else(spoilt: Path, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "thesis.tex").write_text("precious", encoding="utf-8")
    before = contents(tmp_path)
    inputs = ("--inputs", spoilt / "test.npz", "--workers", 1)
    words = ["not empty", "nothing was written"]
    refused(emulator, USAGE, words, "run", spoilt / "model.onnx", *inputs, "-o", tmp_path)
    words = ["is a file"]
    refused(emulator, USAGE, words, "run", spoilt / "model.onnx", *inputs, "-o", tmp_path / "thesis.tex")
    assert contents(tmp_path) == before


def test_the_same_campaign_again_changes_nothing(spoilt: Path, emulator: Emulator) -> None:
    before = contents(spoilt / "runs/a")
    options = ("--limit", 20, "--trials", 1000, "--workers", 1, "-o", spoilt / "runs/a")
    assert emulator("run", spoilt / "model.onnx", "--inputs", spoilt / "test.npz", *options).code == 0
    assert contents(spoilt / "runs/a") == before
