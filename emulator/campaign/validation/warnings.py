"""What a check warns of: no mismatch, but what may surprise, and what to do about it
(docs/how_to/check_a_deployment.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.campaign.validation.float_comparison import LOW_SQNR_DB

if TYPE_CHECKING:
    from emulator.campaign.validation.report import CheckReport

# Above this share, and below this one, a user is warned.
CLIPPED_SHARE = 0.01
AGREEMENT = 0.99

# What mends each, behind the finding.
_DEPLOY = "deploy as QOperator (--format qoperator) or unoptimised, or accept these"


def warnings_of(report: CheckReport) -> list[str]:
    """One line each: what was found; what to do."""
    inputs = [text for given in report.inputs if (text := _clipped_input(given))]
    return [
        *inputs,
        *_answers(report),
        *_deployment(report),
        *_overflows(report),
        *_clipping(report.layers),
        *_noise(report.layers),
    ]


def _clipped_input(given: dict[str, Any]) -> str:
    share = given["saturated_high_share"] + given["saturated_low_share"]
    if share <= CLIPPED_SHARE:
        return ""
    return (
        f"input {given['name']!r}: {100 * share:.1f} % of values are outside what its scale can hold "
        f"[{given['lowest']:.4g}, {given['highest']:.4g}] and are lost before the first layer; calibrate with inputs "
        "like these, or scale these as in calibration"
    )


def _answers(report: CheckReport) -> list[str]:
    found = [
        f"dead output: {reason}; calibrate with more inputs, or name the output that is the answer (--answer)"
        for reason in report.answers.dead
    ]
    if report.answers.tied_share > 0:
        found.append(
            f"ties in the top-1: {100 * report.answers.tied_share:.2f} % of samples have several classes at the "
            "maximum; the first of them counts, break ties the same way in deployment, or, where they are too many, "
            "keep more bits of the answer (--activation int16)"
        )
    agreement = report.top1_agreement_float
    if agreement is not None and agreement < AGREEMENT:
        found.append(
            f"top-1 equals the float model's on {100 * agreement:.2f} % of samples only; begin with the first input or "
            "layer that is clipped or noisy, and calibrate with more inputs like these"
        )
    return found


def _deployment(report: CheckReport) -> list[str]:
    found, macs = [], report.original.deployment.float_macs
    if macs:
        found.append(
            f"ONNX Runtime leaves {len(macs)} of {len(report.layers)} MAC layers in float between DequantizeLinear "
            f"and QuantizeLinear ({_some([f'{op} {name}' for op, name in macs])}): they round once more than "
            f"integer hardware; {_DEPLOY}"
        )
    if report.top1_agreement < 1:
        found.append(
            f"top-1 equals the optimised original file's on {100 * report.top1_agreement:.2f} % of samples; {_DEPLOY}"
        )
    return found


def _overflows(report: CheckReport) -> list[str]:
    exact = report.array.exact_psum_bits
    texts = {
        "accumulator_overflowed": "accumulator overflows: {count:,} sums need more bits "
        "({accumulator_bits_needed}) than the array has ({accumulator_bits}); use an array with acc_bits=32, or "
        "smaller weights",
        "partial_sum_overflowed": "partial sums overflow: {count:,} times in the columns of the array, they need "
        f"{{partial_sum_bits_needed}} bits and have {{partial_sum_bits}}; use an array with psum_bits from {exact}",
        "bias_clipped": "{count:,} int32 biases are clipped; quantise per tensor, or with larger scales",
        "bias_wrapped": "{count:,} int32 biases wrap with the input's zero point folded in; quantise per tensor, or "
        "with zero points of 0 (--symmetric)",
    }
    return [
        f"layer {layer['name']!r}: {text.format(count=layer[key], **layer)}"
        for key, text in texts.items()
        for layer in report.layers
        if layer[key]
    ]


def _clipping(layers: list[dict[str, Any]]) -> list[str]:
    found = []
    for end in ("high", "low"):
        key = f"saturated_{end}_share"
        over = [f"{x['name']} {100 * x[key]:.1f} %" for x in layers if x[key] > CLIPPED_SHARE]
        if over:
            found.append(
                f"clipped at the {end} end: {_some(over)} of the outputs; calibrate with inputs like these, by "
                "--method minmax if it was another"
            )
    return found


def _noise(layers: list[dict[str, Any]]) -> list[str]:
    found = []
    noisy = [layer for layer in layers if layer["sqnr_db"] is not None and layer["sqnr_db"] < LOW_SQNR_DB]
    if noisy:
        shown = [f"{layer['name']} {layer['sqnr_db']:.1f} dB" for layer in noisy]
        found.append(
            f"low SQNR: {_some(shown)}; noise is handed on, "
            "so begin with the first: calibrate with inputs like these, or use more bits (--activation int16)"
        )
    hidden = [layer for layer in layers if layer["sqnr_low_channels"] and layer not in noisy]
    found += [
        f"layer {layer['name']!r}: {layer['sqnr_low_channels']} channels are below {LOW_SQNR_DB:g} dB, the worst, "
        f"channel {layer['sqnr_worst_channel']}, at {layer['sqnr_worst_channel_db']:.1f} dB, behind "
        f"{layer['sqnr_db']:.1f} dB of the layer; scale the channels to like ranges before quantising (cross-layer "
        "equalisation), and quantise weights per channel (--per-channel)"
        for layer in hidden
    ]
    return found


def _some(items: list[str]) -> str:
    """The first three, and how many more."""
    rest = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + rest
