"""What a check found: figures, the answer, and what to be warned of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.campaign.validation.answers import Answers
from emulator.campaign.validation.differences import Difference
from emulator.graph.deployment import Deployment
from emulator.notebook import titled_table
from emulator.sampling.estimate import Estimate

# Above these shares and below this ratio a user is warned.
CLIPPED_SHARE = 0.01
LOW_SQNR_DB = 10.0
AGREEMENT = 0.99

LAYER_COLUMNS = ("layer", "acc bits", "psum bits", "clip high", "low", "ReLU", "SQNR dB", "cycles", "differ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OriginalFile:
    """The file as it was given, run by ONNX Runtime, against the emulator.

    operators, whole: unoptimised (QDQ: in float between the integers); each operator given the emulator's
    integers, and the whole file end to end, where one rounding tie is carried on through the layers that follow.
    deployed, begins: all optimisations on; every tensor that can still be read, and of these the ones where a
    difference begins. answers: those of the optimised file.
    """

    operators: dict[str, Difference] = field(repr=False)
    whole: dict[str, Difference] = field(repr=False)
    deployed: dict[str, Difference] = field(repr=False)
    begins: dict[str, Difference] = field(repr=False)
    deployment: Deployment = field(repr=False)
    answers: Answers = field(repr=False)

    @property
    def explanations(self) -> list[dict[str, Any]]:
        """Where the optimised file begins to differ: tensor, the deployed operator that writes it, the nodes
        fused into it, differing elements and LSB."""
        by_name = {tensor.name: tensor for tensor in self.deployment.tensors}
        return [
            {"tensor": name, "operator": by_name[name].operator, "fused": list(by_name[name].fused)}
            | difference._asdict()
            for name, difference in self.begins.items()
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "original_operators": {name: d._asdict() for name, d in self.operators.items()},
            "original_end_to_end": {name: d._asdict() for name, d in self.whole.items()},
            "original_optimised": {name: d._asdict() for name, d in self.deployed.items()},
            "original_optimised_differs_first": self.explanations,
            "original_optimised_float_layers": [name for _, name in self.deployment.float_macs],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckReport:
    """mismatches: differing elements of each tensor against the QLinear form, none if all is well.

    answers: the emulator's; float_answers: those of the float model, if one was given.
    """

    samples: int
    labels: npt.NDArray[np.int64] | None = field(repr=False)
    tensors: int
    mismatches: dict[str, int] = field(repr=False)
    answers: Answers = field(repr=False)
    original: OriginalFile = field(repr=False)
    float_answers: Answers | None = field(repr=False)
    layers: list[dict[str, Any]] = field(repr=False)

    @property
    def engine_mismatches(self) -> int:
        return sum(int(layer["engine_mismatches"]) for layer in self.layers)

    @property
    def ok(self) -> bool:
        """Every tensor equal to the QLinear form, the cycle engine equal to the golden run, and every operator of
        the original file, which rounds in float, within 1 LSB."""
        return not self.mismatches and self.engine_mismatches == 0 and not self.far_operators

    @property
    def far_operators(self) -> list[str]:
        """Tensors of the original file that one operator alone puts more than 1 LSB away."""
        return [name for name, difference in self.original.operators.items() if difference.max_lsb > 1]

    @property
    def top1_agreement(self) -> float:
        """Share of samples on which emulator and optimised original file give the same class."""
        return _agreement(self.answers, self.original.answers)

    @property
    def top1_agreement_float(self) -> float | None:
        return None if self.float_answers is None else _agreement(self.answers, self.float_answers)

    @property
    def warnings(self) -> list[str]:
        """What is no mismatch but may surprise; none leaves exit code 0."""
        return [*self._answer_warnings(), *self._deployment_warnings(), *self._layer_warnings()]

    def _answer_warnings(self) -> list[str]:
        found = [f"dead output: {reason}" for reason in self.answers.dead]
        if self.answers.tied_share > 0:
            found.append(
                f"ties in the top-1: {self.answers.mean_at_maximum:.2f} classes at the maximum on average, "
                f"{100 * self.answers.tied_share:.2f} % of samples tie; the first of them counts"
            )
        agreement = self.top1_agreement_float
        if agreement is not None and agreement < AGREEMENT:
            found.append(f"top-1 equals the float model's on {100 * agreement:.2f} % of samples only")
        return found

    def _deployment_warnings(self) -> list[str]:
        found = []
        macs = self.original.deployment.float_macs
        if macs:
            found.append(
                f"ONNX Runtime leaves {len(macs)} of {len(self.layers)} MAC layers in float between DequantizeLinear "
                f"and QuantizeLinear ({_some([f'{op} {name}' for op, name in macs])}): they round once more than "
                "integer hardware"
            )
        if self.top1_agreement < 1:
            found.append(
                f"top-1 equals the optimised original file's on {100 * self.top1_agreement:.2f} % of samples"
            )
        return found

    def _layer_warnings(self) -> list[str]:
        texts = {
            "accumulator_overflowed": "accumulator overflows: {} sums need more bits than the array has",
            "partial_sum_overflowed": "partial sums overflow: {} times in the columns of the array",
            "bias_clipped": "{} int32 biases are clipped",
            "bias_wrapped": "{} int32 biases wrap with the input's zero point folded in",
        }
        found = [
            f"layer {layer['name']!r}: {text.format(f'{layer[key]:,}')}"
            for key, text in texts.items()
            for layer in self.layers
            if layer[key]
        ]
        for end in ("high", "low"):
            key = f"saturated_{end}_share"
            over = [f"{x['name']} {100 * x[key]:.1f} %" for x in self.layers if x[key] > CLIPPED_SHARE]
            if over:
                found.append(f"clipped at the {end} end: {_some(over)} of the outputs")
        noisy = [
            f"{layer['name']} {layer['sqnr_db']:.1f} dB"
            for layer in self.layers
            if layer["sqnr_db"] is not None and layer["sqnr_db"] < LOW_SQNR_DB
        ]
        return [*found, f"low SQNR: {_some(noisy)}"] if noisy else found

    @property
    def accuracies(self) -> dict[str, Estimate]:
        """On these samples: `emulator`, `original` (the file as deployed), `float` if given; none without labels."""
        answers = {"emulator": self.answers, "original": self.original.answers, "float": self.float_answers}
        labels = self.labels
        if labels is None:
            return {}
        return {name: found.accuracy(labels) for name, found in answers.items() if found is not None}

    @property
    def layer_rows(self) -> list[list[str]]:
        """The cells of LAYER_COLUMNS for each layer: bits needed of those there are, shares clipped, differences."""
        return [_row(layer) for layer in self.layers]

    def __repr__(self) -> str:
        equal = self.tensors - len(self.mismatches)
        return (
            f"CheckReport({'ok' if self.ok else 'FAILED'}: {equal} of {self.tensors} tensors equal ONNX Runtime bit "
            f"for bit over {self.samples} samples)"
        )

    def _repr_html_(self) -> str:
        return titled_table(repr(self), LAYER_COLUMNS, self.layer_rows)

    def to_json(self) -> dict[str, Any]:
        accuracies = {name: found.value for name, found in self.accuracies.items()}
        return {
            "ok": self.ok,
            "warnings": self.warnings,
            "samples": self.samples,
            "tensors": self.tensors,
            "mismatched_tensors": len(self.mismatches),
            "mismatches": self.mismatches,
            "engine_mismatches": self.engine_mismatches,
            "top1_agreement": self.top1_agreement,
            "top1_agreement_float": self.top1_agreement_float,
            "accuracy": accuracies.get("emulator"),
            "accuracy_original": accuracies.get("original"),
            "accuracy_float": accuracies.get("float"),
            "classes_at_maximum": self.answers.mean_at_maximum,
            "tied_share": self.answers.tied_share,
            "dead_outputs": self.answers.dead,
            **self.original.to_json(),
            "layers": self.layers,
        }


def _row(layer: dict[str, Any]) -> list[str]:
    sqnr = layer["sqnr_db"]
    return [
        layer["name"],
        f"{layer['accumulator_bits_needed']} of {layer['accumulator_bits']}",
        f"{layer['partial_sum_bits_needed']} of {layer['partial_sum_bits']}",
        *(f"{100 * layer[f'saturated_{end}_share']:.2f} %" for end in ("high", "low", "relu")),
        "-" if sqnr is None else f"{sqnr:.1f}",
        f"{layer['cycles']:,}",
        str(layer["engine_mismatches"]),
    ]


def _agreement(ours: Answers, theirs: Answers) -> float:
    return float((ours.top1 == theirs.top1).mean())


def _some(items: list[str]) -> str:
    """The first three, and how many more."""
    rest = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + rest
