"""Several faults at once, or of every layer, explained: what became of each layer, and of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.registers import check_upset
from emulator.array.upset import Upset
from emulator.campaign.explain import Engine, in_words, real_logits, upset_facts
from emulator.campaign.fault_text import Named
from emulator.errors import BadConfig
from emulator.faults.fault import Fault
from emulator.faults.plan import plan_of
from emulator.graph.golden import Golden, Inference
from emulator.propagate.outcome import judge
from emulator.propagate.permanent import FAULT_FREE, run_struck
from emulator.sampling.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class StruckLayer:
    """A MAC layer: its engine, accumulators and outputs that differ from the fault-free run, errors that came with its
    input included, and the largest error of an accumulator. Nothing is known of a layer that hangs."""

    layer: int
    layer_name: str
    engine: str
    wrong_accumulators: int
    accumulators: int
    largest_error: int
    wrong_outputs: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseExplanation:
    """layers: those that ran. hang: the layer that never completes (DUE), and there is no faulty answer. masked_at: as
    of a single fault; real_golden, real_faulty: the logits as reals."""

    named: tuple[Named, ...]
    image: int
    layers: tuple[StruckLayer, ...]
    hang: int | None
    masked_at: str
    sdc1: bool
    tie: bool
    top1_golden: int
    top1_faulty: int | None
    real_golden: npt.NDArray[np.float32] = field(repr=False)
    real_faulty: npt.NDArray[np.float32] | None = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything, with plain types."""
        return {
            "faults": [
                {"fault": n.text, "layer": n.layer, "sites": [upset_facts(upset) for upset in n.upsets]}
                for n in self.named
            ],
            "input": self.image,
            "layers": [asdict(layer) for layer in self.layers],
            "masked_at": self.masked_at,
            "due": self.hang is not None,
            "hang": self.hang,
            "sdc1": self.sdc1,
            "tie": self.tie,
            "top1": {"golden": self.top1_golden, "faulty": self.top1_faulty},
            "logits": {
                "golden": self.real_golden.tolist(),
                "faulty": None if self.real_faulty is None else self.real_faulty.tolist(),
            },
        }

    def __str__(self) -> str:
        lines = [f"input {self.image}", *(f"  {_title(named)}" for named in self.named)]
        for one in self.layers:
            if one.layer == self.hang:
                lines.append(f"layer {one.layer} ({one.layer_name}): never completes  (engine: {one.engine})")
                continue
            lines.append(
                f"layer {one.layer} ({one.layer_name}): {one.wrong_accumulators} of {one.accumulators} accumulators "
                f"wrong, largest error {one.largest_error}; {one.wrong_outputs} outputs  ({_by(one.engine)})"
            )
        lines.append(self._ending())
        return "\n".join(lines)

    def _ending(self) -> str:
        if self.real_faulty is None:
            return "DUE: the layer never completes"
        if self.masked_at != "none":
            return _ENDINGS[self.masked_at]
        moved = np.abs(self.real_faulty - self.real_golden).max()
        verdict = "SDC-1" if self.sdc1 else "same answer"
        tie = ", by a tie" if self.tie else ""
        return (
            f"answer: class {self.top1_golden} became {self.top1_faulty} ({verdict}{tie}); largest change of a logit "
            f"{moved:.3g}"
        )


_ENDINGS = {
    "array": "masked in the array: no accumulator changed",
    "requant": "masked at requantisation: every error was rounded away or saturates to the same int8",
    "network": "masked in the network: a later layer absorbed it",
}


def _by(engine: str) -> str:
    """What made the errors of a layer."""
    return "no fault in this layer" if engine == FAULT_FREE else f"engine: {engine}"


def _title(named: Named) -> str:
    where = "every layer" if named.layer is None else f"layer {named.layer} ({named.layer_name})"
    if len(named.upsets) > 1:
        return f"{where}: {named.text}, {len(named.upsets)} registers"
    return f"{where}: {in_words(named.upsets[0])}"


def explain_dense(
    bench: Workbench, image: int, named: Sequence[Named], engine: Engine = "auto"
) -> DenseExplanation:
    """Every MAC layer of input `image` under all these faults together, computed whole.

    Raises BadConfig for a place outside the array, a cycle outside the layer or, where all are meant, the longest one,
    and a closed form that there is not.
    """
    if not 0 <= image < bench.images:
        raise BadConfig(f"input {image}; allowed: 0 to {bench.images - 1}.")
    golden, layers = bench.golden, range(len(bench.network.graph.layers))
    for one in named:
        _check(bench, one)
    upsets: dict[int, list[Upset]] = {
        layer: [u for one in named if one.layer in (None, layer) for u in one.upsets] for layer in layers
    }
    run = run_struck(golden, bench.inputs[image], bench.array, upsets, None if engine == "auto" else engine)
    right = bench.inference(image)
    ran = tuple(
        _compared(golden, right, run.inference, layer, engine, hangs=layer == run.hang)
        for layer, engine in enumerate(run.engines)
    )
    graph, expected = bench.network.graph, golden.logits(right)
    known: dict[str, Any] = {"named": tuple(named), "image": image, "layers": ran, "hang": run.hang}
    known |= {"top1_golden": int(expected.argmax()), "real_golden": real_logits(graph.answer, expected)}
    if run.hang is not None:
        return DenseExplanation(
            **known, masked_at="none", sdc1=False, tie=False, top1_faulty=None, real_faulty=None
        )
    found = golden.logits(run.inference)
    outcome = judge(graph.answer, expected, found[np.newaxis])
    return DenseExplanation(
        **known,
        masked_at=_stage(ran, same=np.array_equal(found, expected)),
        sdc1=bool(outcome.sdc1[0]),
        tie=bool(outcome.tie[0]),
        top1_faulty=int(outcome.top1[0]),
        real_faulty=real_logits(graph.answer, found),
    )


def _check(bench: Workbench, named: Named) -> None:
    plans = [plan_of(bench.array, layer) for layer in bench.network.graph.layers]
    longest = max(plan.window_cycles for plan in plans)
    for upset in named.upsets:
        if named.layer is not None:
            bench.space.check(Fault(layer=named.layer, upset=upset))
        check_upset(bench.array, upset)
        if upset.cycle >= longest:
            raise BadConfig(
                f"fault {named.text!r}: cycle {upset.cycle}; allowed: 0 to {longest - 1}, cycles count from the start "
                "of each layer."
            )


def _compared(
    golden: Golden, right: Inference, wrong: Inference, layer: int, engine: str, *, hangs: bool
) -> StruckLayer:
    mac = golden.graph.layers[layer]
    error = golden.accumulator(wrong, layer).astype(np.int64) - golden.accumulator(right, layer)
    error = np.zeros_like(error) if hangs else error
    outputs = np.count_nonzero(error)
    if isinstance(mac.target, int) and not hangs:
        outputs = np.count_nonzero(golden.tensor(wrong, mac.target) != golden.tensor(right, mac.target))
    return StruckLayer(
        layer=layer,
        layer_name=mac.name,
        engine=engine,
        wrong_accumulators=int(np.count_nonzero(error)),
        accumulators=error.size,
        largest_error=int(np.abs(error).max()),
        wrong_outputs=int(outputs),
    )


def _stage(layers: Sequence[StruckLayer], *, same: bool) -> str:
    if not any(layer.wrong_accumulators or layer.wrong_outputs for layer in layers):
        return "array"
    if not any(layer.wrong_outputs for layer in layers):
        return "requant"
    return "network" if same else "none"
