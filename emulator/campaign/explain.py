"""One fault, explained: what it struck, what it did to the accumulators, where it died or how the answer moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from emulator.array.registers import register
from emulator.errors import BadConfig
from emulator.faults.fault import Fault, FaultBatch
from emulator.faults.space import layer_index
from emulator.faults.strike import CYCLE, strike, strike_by_cycles
from emulator.propagate.delta import Stage
from emulator.propagate.outcome import judge
from emulator.sampling.workbench import Workbench

Engine = Literal["closed-form", "cycle"]


_ENGINES: dict[str, Engine] = {"closed-form": "closed-form", "cycle": "cycle"}


def parse_engine(text: str) -> Engine:
    """An engine by name; raises BadConfig."""
    if text in _ENGINES:
        return _ENGINES[text]
    raise BadConfig(f"engine {text!r}; allowed: {', '.join(_ENGINES)}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """before, after: the struck value, None where there is no closed form. m, n, delta: the wrong accumulators.
    real_golden, real_faulty: the dequantised logits."""

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
    corrupted_outputs: int
    masked_at: str
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
        return {
            "site": site,
            "input": self.image,
            "live": self.live,
            "engine": self.engine,
            "old_value": self.before,
            "new_value": self.after,
            "accumulator_error": [
                {"m": m, "n": n, "delta": delta}
                for m, n, delta in zip(self.m.tolist(), self.n.tolist(), self.delta.tolist(), strict=True)
            ],
            "corrupted_outputs": self.corrupted_outputs,
            "masked_at": self.masked_at,
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
            f"bit {','.join(map(str, u.bits))} in cycle {u.cycle}{value}",
            f"accumulators wrong: {len(self.m)}{self._extent()}  (engine: {self.engine})",
            f"outputs of the layer wrong: {self.corrupted_outputs}",
            _ENDINGS[self.masked_at],
        ]
        if self.masked_at == "none":
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


_ENDINGS = {
    "dead": "masked: the register is dead in this cycle, nothing reads it before it is written again",
    "array": "masked in the array: no accumulator changed",
    "requant": "masked at requantisation: every error was rounded away",
    "clamp": "masked at requantisation: the wrong values saturate to the same int8",
    "network": "masked in the network: a later layer absorbed it",
    "none": "not masked: the logits differ",
}


def explain(bench: Workbench, image: int, fault: Fault, engine: Engine = "closed-form") -> Explanation:
    """Strike `fault` on input `image`. Raises BadConfig for a site outside the space, or one without closed form."""
    if not 0 <= image < bench.images:
        raise BadConfig(f"input {image}; allowed: 0 to {bench.images - 1}.")
    bench.space.index(fault)  # refuses what the space does not have
    inference = bench.inference(image)
    live = bench.space.is_live(fault)
    closed = None
    if engine != CYCLE or _has_closed_form(fault):
        closed = strike(bench.golden, inference, bench.array, _batch_of(bench, fault))
    if engine == CYCLE or closed is None:
        strikes = strike_by_cycles(bench.golden, inference, bench.array, fault)
    else:
        strikes = closed
    layer = np.array([fault.layer])
    effects = bench.propagator.run(inference, layer, strikes.ptr, strikes.m, strikes.n, strikes.delta)
    graph = bench.network.graph
    answer, golden = graph.tensors[graph.output], bench.golden.logits(inference)
    outcome = judge(answer, golden, effects.logits)
    stage = Stage(int(effects.stage[0])) if live or len(strikes.m) else Stage.DEAD
    before, after = (None, None) if closed is None else (int(closed.before[0]), int(closed.after[0]))
    return Explanation(
        fault=fault,
        image=image,
        layer_name=graph.layers[fault.layer].name,
        live=live,
        engine=engine,
        before=before,
        after=after,
        m=strikes.m,
        n=strikes.n,
        delta=strikes.delta,
        corrupted_outputs=int(effects.corrupted[0]),
        masked_at=stage.name.lower(),
        sdc1=bool(outcome.sdc1[0]),
        tie=bool(outcome.tie[0]),
        top1_golden=int(golden.argmax()),
        top1_faulty=int(outcome.top1[0]),
        real_golden=answer.real(golden),
        real_faulty=answer.real(effects.logits[0]),
    )


def _has_closed_form(fault: Fault) -> bool:
    return fault.upset.kind == "flip" and len(fault.upset.bits) == 1


def _batch_of(bench: Workbench, fault: Fault) -> FaultBatch:
    u = fault.upset
    if not _has_closed_form(fault):
        raise BadConfig(
            f"{u.kind} of bits {u.bits} has no closed form; allowed: a flip of one bit. Use --engine cycle."
        )
    code = register(bench.array, u.register).code
    values = {"layer": fault.layer, "register": code, "row": u.row, "col": u.col}
    values |= {"bit": u.bits[0], "cycle": u.cycle}
    return FaultBatch(**{name: np.array([value]) for name, value in values.items()})


def parse_fault(text: str, layers: list[str]) -> Fault:
    """`layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7`; layer by name or index. Raises BadConfig."""
    from emulator.array.upset import Upset

    wanted = ("layer", "register", "row", "col", "cycle", "bit")
    pairs = dict(part.partition("=")[::2] for part in text.split())
    if set(pairs) != set(wanted):
        raise BadConfig(
            f"fault {text!r}: keys {sorted(pairs)}; allowed: exactly {', '.join(wanted)}. "
            'Example: "layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7".'
        )
    try:
        row, col, cycle, bit = (int(pairs[key]) for key in ("row", "col", "cycle", "bit"))
    except ValueError:
        raise BadConfig(f"fault {text!r}: row, col, cycle and bit are whole numbers.") from None
    upset = Upset(register=pairs["register"], row=row, col=col, bits=(bit,), cycle=cycle)
    return Fault(layer=layer_index(layers, pairs["layer"]), upset=upset)
