"""What a check found: figures, the answer, and what to be warned of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.campaign.validation.answers import Answers
from emulator.campaign.validation.differences import Difference
from emulator.campaign.validation.warnings import warnings_of
from emulator.errors import BadConfig
from emulator.faults.space import check_exact
from emulator.graph.deployment import Deployment
from emulator.notebook import titled_table
from emulator.sampling.estimate import Estimate

LAYER_COLUMNS = (
    "layer", "acc bits", "psum bits", "clip high", "low", "ReLU", "SQNR dB", "worst", "cycles", "differ",
)  # fmt: skip


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

    answers: the emulator's; float_answers: those of the float model, if one was given. inputs, layers: as in JSON
    (docs/json.md).
    """

    samples: int
    labels: npt.NDArray[np.int64] | None = field(repr=False)
    tensors: int
    mismatches: dict[str, int] = field(repr=False)
    answers: Answers = field(repr=False)
    original: OriginalFile = field(repr=False)
    float_answers: Answers | None = field(repr=False)
    array: ArraySpec = field(repr=False)
    inputs: list[dict[str, Any]] = field(repr=False)
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
    def failure(self) -> str:
        """Why it is not ok, and what to do: another array where this one is at fault, else a report to us."""
        if not self.mismatches and not self.far_operators:
            try:
                check_exact(self.array)
            except BadConfig as error:
                return f"{self._where_the_array_differs} {error}"
        listed = ", ".join(f"{name} ({count})" for name, count in list(self.mismatches.items())[:5])
        return (
            f"{len(self.mismatches)} tensors differ from ONNX Runtime [{listed}], "
            f"{self.engine_mismatches} differences of the cycle engine, "
            f"{len(self.far_operators)} operators of the original file off by more than 1 LSB "
            f"{self.far_operators[:5]}. Do not trust campaigns on this model; please report it."
        )

    @property
    def _where_the_array_differs(self) -> str:
        narrow = [
            f"layer {layer['name']!r} needs {layer[f'{kind}_bits_needed']} bits for its {word}, the array has "
            f"{layer[f'{kind}_bits']}"
            for kind, word in (("partial_sum", "partial sums"), ("accumulator", "sums"))
            for layer in self.layers
            if layer[f"{kind}_overflowed"] and layer["engine_mismatches"]
        ]
        return (
            "; ".join([f"the array gives {self.engine_mismatches} other values than ONNX Runtime", *narrow])
            + "."
        )

    @property
    def top1_agreement(self) -> float:
        """Share of samples on which emulator and optimised original file give the same class."""
        return _agreement(self.answers, self.original.answers)

    @property
    def top1_agreement_float(self) -> float | None:
        return None if self.float_answers is None else _agreement(self.answers, self.float_answers)

    @property
    def warnings(self) -> list[str]:
        """What is no mismatch but may surprise, each with what to do; none leaves exit code 0."""
        return warnings_of(self)

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
        """The cells of LAYER_COLUMNS for each quantised input and each layer: bits needed of those there are, shares
        clipped, noise, differences."""
        return [*map(_input_row, self.inputs), *map(_row, self.layers)]

    def __repr__(self) -> str:
        equal = self.tensors - len(self.mismatches)
        return (
            f"CheckReport({'ok' if self.ok else 'FAILED'}: {equal} of {self.tensors} tensors equal ONNX Runtime bit "
            f"for bit over {self.samples} samples{self._on_the_array})"
        )

    @property
    def _on_the_array(self) -> str:
        found = self.engine_mismatches
        return f", but the array {self.array.name} gives {found} other values" if found else ""

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
            "inputs": self.inputs,
            "layers": self.layers,
        }


def _input_row(given: dict[str, Any]) -> list[str]:
    shares = [f"{100 * given[f'saturated_{end}_share']:.2f} %" for end in ("high", "low")]
    return [f"input {given['name']}", "-", "-", *shares, *["-"] * 5]


def _row(layer: dict[str, Any]) -> list[str]:
    sqnr, worst = layer["sqnr_db"], layer["sqnr_worst_channel_db"]
    return [
        layer["name"],
        f"{layer['accumulator_bits_needed']} of {layer['accumulator_bits']}",
        f"{layer['partial_sum_bits_needed']} of {layer['partial_sum_bits']}",
        *(f"{100 * layer[f'saturated_{end}_share']:.2f} %" for end in ("high", "low", "relu")),
        "-" if sqnr is None else f"{sqnr:.1f}",
        "-" if worst is None else f"{worst:.1f}",
        f"{layer['cycles']:,}",
        str(layer["engine_mismatches"]),
    ]


def _agreement(ours: Answers, theirs: Answers) -> float:
    return float((ours.top1 == theirs.top1).mean())
