"""One fault, explained: what it struck, what it did to the accumulators, where it died or how the answer moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from emulator.array.exposure.lifetime import Sites
from emulator.array.registers import register
from emulator.array.upset import FLIP, Kind, Upset
from emulator.errors import BadConfig
from emulator.faults.fault import Fault, FaultBatch
from emulator.faults.plan import plan_of
from emulator.faults.space import layer_index
from emulator.faults.strike import CLOSED_FORM, CYCLE, ENGINES, UNSOLVED, Strikes, strike, strike_by_cycles
from emulator.graph.qgraph import QTensor
from emulator.propagate.delta import Stage
from emulator.propagate.outcome import judge
from emulator.sampling.workbench import Workbench

Engine = Literal["auto", "closed-form", "cycle"]


def parse_engine(text: str) -> Engine:
    """An engine by name; raises BadConfig."""
    for engine in get_args(Engine):
        if text == engine:
            return cast(Engine, engine)
    raise BadConfig(f"engine {text!r}; allowed: {', '.join(get_args(Engine))}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """before, after: the struck value, None where there is no closed form. m, n, delta: the wrong accumulators, or
    where at_output the wrong requantised words. real_golden, real_faulty: the dequantised logits."""

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

    def to_json(self) -> dict[str, Any]:
        """Everything, with plain types."""
        u = self.fault.upset
        site = {"layer": self.fault.layer, "layer_name": self.layer_name, "register": u.register}
        site |= {"row": u.row, "col": u.col, "bits": list(u.bits), "kind": u.kind, "cycle": u.cycle}
        site["until_cycle"] = u.until_cycle
        errors = [
            {"m": m, "n": n, "delta": delta}
            for m, n, delta in zip(self.m.tolist(), self.n.tolist(), self.delta.tolist(), strict=True)
        ]
        return {
            "site": site,
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
        u = self.fault.upset
        value = "" if self.before is None else f": {self.before} became {self.after}"
        lines = [
            f"input {self.image}, layer {self.fault.layer} ({self.layer_name}), {u.register}[{u.row}, {u.col}] "
            f"bit {','.join(map(str, u.bits))} {self._when()}{value}",
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

    def _when(self) -> str:
        u = self.fault.upset
        if u.kind == FLIP:
            return f"in cycle {u.cycle}"
        return f"{u.kind} from cycle {u.cycle}" + ("" if u.until_cycle is None else f" to {u.until_cycle}")

    def _extent(self) -> str:
        if not len(self.m):
            return ""
        rows, columns = len(np.unique(self.m)), len(np.unique(self.n))
        return f" ({rows} rows x {columns} columns), largest error {int(np.abs(self.delta).max())}"


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
        m=strikes.m,
        n=strikes.n,
        delta=strikes.delta,
        at_output=bool(strikes.at_output[0]),
        corrupted_outputs=int(effects.corrupted[0]),
        masked_at=stage.name.lower(),
        due=bool(strikes.hang[0]),
        sdc1=bool(outcome.sdc1[0]),
        tie=bool(outcome.tie[0]),
        top1_golden=int(golden.argmax()),
        top1_faulty=int(outcome.top1[0]),
        real_golden=_real(answer, golden),
        real_faulty=_real(answer, effects.logits[0]),
    )


def _real(answer: QTensor | None, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
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


_PLACE = ("layer", "register", "row", "col", "cycle")
_FAULT_EXAMPLE = 'Example: "layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7".'


def parse_fault(text: str, layers: list[str]) -> Fault:
    """`layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7`; layer by name or index; bit=3,7 for several bits;
    kind=stuck-at-1 and until_cycle=120 for other than flips. Raises BadConfig."""
    pairs = dict(part.partition("=")[::2] for part in text.split())
    optional = {"kind", "until_cycle"}
    if set(pairs) - optional != {*_PLACE, "bit"}:
        raise BadConfig(
            f"fault {text!r}: keys {sorted(pairs)}; allowed: exactly {', '.join(_PLACE)}, bit, and where wanted "
            f"{' and '.join(sorted(optional))}. {_FAULT_EXAMPLE}"
        )
    try:
        row, col, cycle = (int(pairs[key]) for key in ("row", "col", "cycle"))
        bits = tuple(int(bit) for bit in pairs["bit"].split(","))
        until = int(pairs["until_cycle"]) if "until_cycle" in pairs else None
    except ValueError:
        raise BadConfig(
            f"fault {text!r}: row, col, cycle, bit and until_cycle are whole numbers. {_FAULT_EXAMPLE}"
        ) from None
    upset = Upset(
        register=pairs["register"],
        row=row,
        col=col,
        bits=bits,
        kind=cast(Kind, pairs.get("kind", FLIP)),
        cycle=cycle,
        until_cycle=until,
    )
    return Fault(layer=layer_index(layers, pairs["layer"]), upset=upset)
