"""One fault, explained: what it struck, what it did to the accumulators, where it died or how the answer moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from emulator.array.exposure.lifetime import Sites
from emulator.array.registers import register
from emulator.array.tiling import Schedule
from emulator.array.upset import FLIP, Upset
from emulator.errors import BadConfig
from emulator.faults.fault import Fault, FaultBatch
from emulator.faults.plan import plan_of
from emulator.faults.salvo import strike
from emulator.faults.strike import strike_by_cycles
from emulator.faults.strikes import CLOSED_FORM, CYCLE, ENGINES, UNSOLVED, Strikes
from emulator.graph.qgraph import QTensor
from emulator.propagate.outcome import judge
from emulator.propagate.stage import Stage
from emulator.sampling.workbench import Workbench

Engine = Literal["auto", "closed-form", "cycle"]
ASKABLE: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """before, after: the struck value, None where there is no closed form. m, n, delta: the wrong accumulators, or
    where at_output the wrong requantised words. real_golden, real_faulty: the dequantised logits. plan: how the layer
    runs on the array."""

    fault: Fault
    image: int
    layer_name: str
    live: bool
    engine: str
    before: int | None
    after: int | None
    m: npt.NDArray[np.int64] = field(repr=False)
    n: npt.NDArray[np.int64] = field(repr=False)
    delta: npt.NDArray[np.int64] = field(repr=False)
    at_output: bool
    corrupted_outputs: int
    masked_at: str
    due: bool
    sdc1: bool
    tie: bool
    top1_golden: int
    top1_faulty: int
    real_golden: npt.NDArray[np.float32] = field(repr=False)
    real_faulty: npt.NDArray[np.float32] = field(repr=False)
    plan: Schedule = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything, with plain types."""
        site = {"layer": self.fault.layer, "layer_name": self.layer_name} | upset_facts(self.fault.upset)
        errors = [
            {"m": m, "n": n, "delta": delta}
            for m, n, delta in zip(self.m.tolist(), self.n.tolist(), self.delta.tolist(), strict=True)
        ]
        return {
            "site": site,
            "fault": str(self.fault),
            "input": self.image,
            "live": self.live,
            "engine": self.engine,
            "old_value": self.before,
            "new_value": self.after,
            "accumulator_error": [] if self.at_output else errors,
            "output_error": errors if self.at_output else [],
            "corrupted_outputs": self.corrupted_outputs,
            "masked_at": self.masked_at,
            "due": self.due,
            "sdc1": self.sdc1,
            "tie": self.tie,
            "top1": {"golden": self.top1_golden, "faulty": self.top1_faulty},
            "logits": {"golden": self.real_golden.tolist(), "faulty": self.real_faulty.tolist()},
        }

    def __str__(self) -> str:
        value = "" if self.before is None else f": {self.before} became {self.after}"
        lines = [
            f"input {self.image}, layer {self.fault.layer} ({self.layer_name}), {in_words(self.fault.upset)}{value}",
            f"{'requantised words' if self.at_output else 'accumulators'} wrong: {len(self.m)}{self._extent()}  "
            f"(engine: {self.engine})",
            f"outputs of the layer wrong: {self.corrupted_outputs}",
            _HANG if self.due else _ENDINGS[self.masked_at],
        ]
        if self.masked_at == "none" and not self.due:
            moved = np.abs(self.real_faulty - self.real_golden).max()
            verdict = "SDC-1" if self.sdc1 else "same answer"
            tie = ", by a tie" if self.tie else ""
            lines.append(
                f"answer: class {self.top1_golden} became {self.top1_faulty} ({verdict}{tie}); "
                f"largest change of a logit {moved:.3g}"
            )
        return "\n".join(lines)

    def _extent(self) -> str:
        if not len(self.m):
            return ""
        rows, columns = len(np.unique(self.m)), len(np.unique(self.n))
        return f" ({rows} rows x {columns} columns), largest error {int(np.abs(self.delta).max())}"


def in_words(upset: Upset) -> str:
    """Which bits, of what, when."""
    u = upset
    when = f"in cycle {u.cycle}"
    if u.kind != FLIP:
        when = f"{u.kind} from cycle {u.cycle}" + ("" if u.until_cycle is None else f" to {u.until_cycle}")
    return f"{u.register}[{u.row}, {u.col}] bit {','.join(map(str, u.bits))} {when}"


def upset_facts(upset: Upset) -> dict[str, Any]:
    """An upset with plain types."""
    return {name: getattr(upset, name) for name in ("register", "row", "col")} | {
        "bits": list(upset.bits),
        "kind": upset.kind,
        "cycle": upset.cycle,
        "until_cycle": upset.until_cycle,
    }


_HANG = "DUE: the layer never completes"
_ENDINGS = {
    "dead": "masked: the register is dead in this cycle, nothing reads it before it is written again",
    "array": "masked in the array: no accumulator changed",
    "requant": "masked at requantisation: every error was rounded away",
    "clamp": "masked at requantisation: the wrong values saturate to the same int8",
    "network": "masked in the network: a later layer absorbed it",
    "none": "not masked: the logits differ",
}


def explain(bench: Workbench, image: int, fault: Fault, engine: Engine = "auto") -> Explanation:
    """Strike `fault` on input `image`: by the closed form where there is one, or by the engine asked for.

    Raises BadConfig for a site outside the array or the layer, or one that has no closed form where that was asked
    for.
    """
    if not 0 <= image < bench.images:
        raise BadConfig(f"input {image}; allowed: 0 to {bench.images - 1}.")
    bench.space.check(fault)
    inference = bench.inference(image)
    live = bench.space.is_live(fault)
    closed = _closed_form(bench, image, fault)
    if engine == CLOSED_FORM and closed is None:
        raise BadConfig(f"{fault} has no closed form. Use --engine auto or cycle.")
    strikes = closed
    if closed is None or engine == CYCLE:
        strikes = strike_by_cycles(bench.golden, inference, bench.array, fault.layer, [(fault.upset,)])
    assert strikes is not None
    layer = np.array([fault.layer])
    effects = bench.propagator.run(inference, layer, strikes.errors)
    graph = bench.network.graph
    answer, golden = graph.answer, bench.golden.logits(inference)
    outcome = judge(answer, golden, effects.logits)
    stage = Stage(int(effects.stage[0])) if live or len(strikes.m) else Stage.DEAD
    if strikes.hang[0]:
        stage = Stage.NONE
    before = after = None
    if closed is not None and live:
        before, after = int(closed.before[0]), int(closed.after[0])
    return Explanation(
        fault=fault,
        image=image,
        layer_name=graph.layers[fault.layer].name,
        live=live,
        engine=ENGINES[int(strikes.engine[0])],
        before=before,
        after=after,
        m=strikes.m.astype(np.int64),
        n=strikes.n.astype(np.int64),
        delta=strikes.delta.astype(np.int64),
        at_output=bool(strikes.at_output[0]),
        corrupted_outputs=int(effects.corrupted[0]),
        masked_at=stage.name.lower(),
        due=bool(strikes.hang[0]),
        sdc1=bool(outcome.sdc1[0]),
        tie=bool(outcome.tie[0]),
        top1_golden=int(golden.argmax()),
        top1_faulty=int(outcome.top1[0]),
        real_golden=real_logits(answer, golden),
        real_faulty=real_logits(answer, effects.logits[0]),
        plan=plan_of(bench.array, graph.layers[fault.layer]),
    )


def real_logits(answer: QTensor | None, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Stored logits, or those of a float output, as reals."""
    return values.astype(np.float32) if answer is None else answer.real(values)


def _closed_form(bench: Workbench, image: int, fault: Fault) -> Strikes | None:
    u = fault.upset
    if u.kind != "flip" or len(u.bits) != 1:
        return None
    struck = register(bench.array, u.register)
    plan = plan_of(bench.array, bench.network.graph.layers[fault.layer])
    at = Sites(*(np.array([x]) for x in (u.row, u.col, u.bits[0], u.cycle)))
    fold, _ = struck.lifetime.offset(plan, at)
    values = {"layer": fault.layer, "register": struck.code, "row": u.row, "col": u.col}
    values |= {"bit": u.bits[0], "cycle": u.cycle, "fold": int(fold[0])}
    batch = FaultBatch(**{name: np.array([value]) for name, value in values.items()})
    strikes = strike(bench.golden, bench.inference(image), bench.array, batch, by_cycles=False)
    return None if strikes.engine[0] == UNSOLVED else strikes
