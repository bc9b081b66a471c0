"""Commands of a deployment: quantize makes an int8 model of a float one, check validates it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli import completion, options
from emulator.cli.subject import SEEDED, NothingToCheck, subject_of
from emulator.cli.terminal import announce, command, counted, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.campaign.validation.differences import Difference
    from emulator.campaign.validation.report import CheckReport

_one_of = partial(completion.one_of, "emulator.graph.quantize")

FloatModel = Annotated[Path, typer.Argument(help="float ONNX model", show_default=False)]
AnyModel = Annotated[
    Path, typer.Argument(help="int8 ONNX model; a float one is quantised first", show_default=False)
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        help="npz of inputs as the model takes them: array named like the input, else `inputs`",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for function in (quantize, check):
        app.command()(function)


@command
def quantize(
    context: typer.Context,
    model: FloatModel,
    output: Annotated[Path, typer.Option("-o", "--output", help="the int8 file", show_default=False)],
    calibration: Calibration = None,
    format: Annotated[
        str,
        typer.Option(help="qdq or qoperator", autocompletion=_one_of("Format")),
    ] = "qdq",
    activation: Annotated[
        str,
        typer.Option(
            help="int8, uint8, int16 or uint16",
            autocompletion=_one_of("Activation"),
        ),
    ] = "int8",
    weight: Annotated[
        str,
        typer.Option(
            help="int8, uint8, int4 or uint4",
            autocompletion=_one_of("Weight"),
        ),
    ] = "int8",
    per_channel: Annotated[
        bool, typer.Option("--per-channel/--per-tensor", help="one weight scale an output channel, or one")
    ] = True,
    symmetric: Annotated[
        bool, typer.Option("--symmetric/--asymmetric", help="activation zero points of 0, or any")
    ] = False,
    method: Annotated[
        str,
        typer.Option(
            help="ranges by minmax, entropy or percentile",
            autocompletion=_one_of("Method"),
        ),
    ] = "minmax",
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="take ranges at run time, without calibration")
    ] = False,
    limit: options.Limit = None,
    shape: options.Shape = None,
    json: options.Json = False,
) -> None:
    """Quantise a float model with onnxruntime.quantization.

    Example: emulator quantize model.onnx -o model_int8.onnx --calibration train.npz --limit 200
    """
    from collections import Counter

    from emulator.graph import quantize as quantiser
    from emulator.graph.feeds import fixed_shapes, parse_shapes
    from emulator.graph.overwriting import refuse_to_overwrite

    chosen = quantiser.QuantizeOptions(
        format=_one(format),
        activation=_one(activation),
        weight=_one(weight),
        per_channel=per_channel,
        symmetric=symmetric,
        method=_one(method),
        dynamic=dynamic,
    )
    refuse_to_overwrite(output, (model, calibration))
    announce(context, *(_OF_CALIBRATION if dynamic else ()))
    if dynamic:
        say("with --dynamic: activation ranges are taken at run time")
    source = fixed_shapes(quantiser.read_model(model), parse_shapes(shape))
    made = quantiser.quantize(source, calibration, options=chosen, limit=limit, output=output)
    operators = Counter(node.op_type for node in made.graph.node)
    if json:
        show_json({"output": str(output), "operators": dict(operators), "bytes": output.stat().st_size})
    else:
        found = ", ".join(f"{count} {name}" for name, count in operators.most_common(6))
        show(f"{output}: {output.stat().st_size:,} bytes, {found}")
    say(f"next: emulator check {output} --inputs TEST.npz --float {model}")


@command
def check(
    context: typer.Context,
    model: AnyModel,
    inputs: Annotated[
        Path | None, typer.Option(help="npz", show_default=f"{SEEDED} seeded random samples")
    ] = None,
    float_model: Annotated[
        Path | None, typer.Option("--float", help="the float model it was quantised from, to compare with")
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="refuse --inputs without labels, which give accuracies")
    ] = False,
    array: options.Array = "gemmini-16",
    limit: options.Limit = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    cycle_images: Annotated[int, typer.Option(min=0, help="images replayed cycle by cycle")] = 1,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Validate a deployment against ONNX Runtime, bit for bit.

    Every tensor against ONNX Runtime; the two array engines against each other; the original file as it is
    deployed, and where it begins to differ; sums against the width of their registers; clipping; ties and dead
    outputs; with --float also SQNR and agreement. Labels in the npz add accuracies. A float model is quantised
    first. Warnings leave exit code 0, mismatches give 1; --json has both. docs/how_to/check_a_deployment.md explains
    the columns, when they warn, and what to do.

    Example: emulator check model_int8.onnx --inputs test.npz --float model.onnx
    """
    from emulator.campaign.check import check as run_check
    from emulator.campaign.config import load_array
    from emulator.errors import BadData, CheckFailed
    from emulator.graph.feeds import parse_shapes

    spec = load_array(array)
    announce(context, *(("seed",) if inputs else ("limit",)))
    try:
        subject = subject_of(
            model,
            inputs=inputs,
            float_model=float_model,
            shapes=parse_shapes(shape),
            answer=answer,
            limit=limit,
            seed=seed,
        )
    except NothingToCheck as nothing:
        _show_nothing(str(nothing), json)
        return
    if labels and subject.samples.labels is None:
        raise BadData(
            f"--labels: {inputs or 'random samples'} without labels; allowed: --inputs X.npz with an array `labels`, "
            "one class a sample. Add it, or leave --labels out."
        )
    count = len(subject.samples)
    report = run_check(
        subject.network,
        spec,
        subject.samples,
        cycle_images=cycle_images,
        float_model=subject.float_model,
        progress=lambda n: say(f"  {n} of {count} samples"),
    )
    if json:
        show_json(report.to_json())
    else:
        _show_report(report)
    if not report.ok:
        raise CheckFailed(report.failure)
    warned = f"; warnings: {len(report.warnings)}, see above" if report.warnings and not json else ""
    say(f"ok: the emulator equals ONNX Runtime{warned}")


_OF_CALIBRATION = ("format", "activation", "symmetric", "method", "limit")
"""What --dynamic does without."""


def _one(text: str) -> Any:
    """A choice as typed; QuantizeOptions refuses what it doesn't know."""
    return text.lower()


def _show_nothing(reason: str, json: bool) -> None:
    """A model without an integer MAC layer is no failure."""
    if not json:
        show(f"nothing to check: {reason}")
        return
    empty = {"samples": 0, "tensors": 0, "mismatched_tensors": 0, "mismatches": {}, "engine_mismatches": 0}
    show_json(
        {"ok": True, "warnings": [f"nothing to check: {reason}"]}
        | empty
        | {"top1_agreement": None, "accuracy": None, "layers": []}
    )


def _show_report(report: CheckReport) -> None:
    """The answer first, then warnings, then the layers, then where things differ."""
    from emulator.campaign.validation.report import LAYER_COLUMNS

    show(repr(report).removeprefix("CheckReport(").removesuffix(")"))
    for line in _accuracy_lines(report):
        show(line)
    for warning in report.warnings:
        show(f"warning: {warning}")
    show("")
    show(table(list(LAYER_COLUMNS), report.layer_rows))
    show("")
    original = report.original
    show(f"original file, unoptimised, operator by operator: {_summary(original.operators)}")
    show(f"original file, unoptimised, end to end: {_summary(original.whole)}")
    show(f"original file, optimised, end to end: {_summary(original.deployed)}")
    for place in original.explanations[:10]:
        show(
            f"  begins at {place['tensor']}: {place['operator']}, made of {' + '.join(place['fused'])}; "
            f"{place['elements']} elements by up to {place['max_lsb']} LSB"
        )
    if len(original.explanations) > 10:
        show(f"  and at {len(original.explanations) - 10} more (--json lists all)")


def _accuracy_lines(report: CheckReport) -> list[str]:
    facts = report.to_json()
    lines = [f"top-1 equals the optimised original file's on {100 * report.top1_agreement:.2f} % of samples"]
    if facts["top1_agreement_float"] is not None:
        lines[0] += f", the float model's on {100 * facts['top1_agreement_float']:.2f} %"
    named = {"accuracy": "", "accuracy_original": "original file ", "accuracy_float": "float model "}
    accuracies = [f"{name}{100 * facts[key]:.2f} %" for key, name in named.items() if facts[key] is not None]
    return [*lines, f"accuracy: {', '.join(accuracies)}"] if accuracies else lines


def _summary(differences: dict[str, Difference]) -> str:
    elements = sum(difference.elements for difference in differences.values())
    touched = sum(difference.elements > 0 for difference in differences.values())
    worst = max((difference.max_lsb for difference in differences.values()), default=0)
    return f"{counted(elements, 'element')} in {touched} of {len(differences)} tensors differ, at most by {worst} LSB"
