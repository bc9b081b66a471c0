"""The space of transient single-bit faults of a network on an array: every register bit in every cycle.

A site is one integer. Idle and dead cycles belong to the population and are counted, never simulated: faults
are drawn among the live sites, and rates over the whole population are live_share times the live rate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby

import numpy as np
import numpy.typing as npt

from emulator.array.exposure.lifetime import Sites
from emulator.array.registers import Register, inventory, registers_named
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule
from emulator.array.upset import Upset
from emulator.choices import did_you_mean
from emulator.errors import BadConfig
from emulator.faults.fault import Fault, FaultBatch
from emulator.faults.plan import plan_of
from emulator.graph.load import Network
from emulator.graph.qgraph import QuantGraph
from emulator.notebook import titled_table

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stratum:
    """The sites of one register class during one layer. fold_ends: running sum of live sites over the folds."""

    layer: int
    layer_name: str
    register: Register
    plan: Schedule
    sites: int
    live: int
    fold_ends: Ints = field(repr=False)


class FaultSpace:
    """Every transient single-bit upset of one inference of `network` on `array`.

    registers, layers: restrict the space to these, one or several (names; of registers also flip-flop or sram, all of
    that storage; a layer also by its index). Raises BadConfig for unknown ones. len() is not defined: `size` is an int
    that may exceed 64 bits.
    """

    def __init__(
        self,
        network: Network,
        array: ArraySpec,
        *,
        registers: str | Sequence[str] | None = None,
        layers: int | str | Sequence[int | str] | None = None,
    ) -> None:
        registers = [registers] if isinstance(registers, str) else registers
        layers = [layers] if isinstance(layers, int | str) else layers
        check_exact(array)
        _check_widths(array, network.graph)
        self.array = array
        self.graph = network.graph
        self.strata = _strata(network.graph, array, registers, layers)
        if self.live >= 1 << 62:
            raise BadConfig(f"{self.live} live sites; allowed: below 2^62. Restrict layers or registers.")
        if self.live == 0:
            raise BadConfig(
                f"fault space: no live site in registers {_given(registers)} of layers {_given(layers)}; allowed: "
                "those that hold what reaches a result. Choose other registers or layers."
            )

    def __repr__(self) -> str:
        return (
            f"FaultSpace({self.graph.name!r} on {self.array.name!r}: {self.size:,} sites an inference, "
            f"{100 * self.live_share:.2f} % live)"
        )

    def _repr_html_(self) -> str:
        rows = []
        for index, parts in groupby(self.strata, key=lambda stratum: stratum.layer):
            of = list(parts)
            sites, live = sum(s.sites for s in of), sum(s.live for s in of)
            rows.append((f"{index} {of[0].layer_name}", len(of), sites, live, f"{100 * live / sites:.2f} %"))
        return titled_table(repr(self), ["layer", "registers", "sites", "live", "% live"], rows)

    @property
    def size(self) -> int:
        """Sites of one inference, dead ones included; a Python int, it may exceed 64 bits."""
        return sum(stratum.sites for stratum in self.strata)

    @property
    def live(self) -> int:
        """Sites at which a flip can reach a written result."""
        return sum(stratum.live for stratum in self.strata)

    @property
    def live_share(self) -> float:
        return self.live / self.size

    @cached_property
    def _live_ends(self) -> Ints:
        return np.cumsum([stratum.live for stratum in self.strata], dtype=np.int64)

    @cached_property
    def _site_starts(self) -> list[int]:
        return [0, *accumulate(stratum.sites for stratum in self.strata)]

    def breakdown(self) -> list[dict[str, int | str]]:
        """Sites and live sites by layer and register."""
        return [
            {
                "layer": s.layer,
                "layer_name": s.layer_name,
                "register": s.register.name,
                "sites": s.sites,
                "live": s.live,
            }
            for s in self.strata
        ]

    # ---- one site, one integer

    def site(self, index: int) -> Fault:
        """The fault at `index` in [0, size), dead ones included."""
        if not 0 <= index < self.size:
            raise BadConfig(
                f"fault index {index}; allowed: 0 to {self.size - 1}. Is it from another campaign?"
            )
        where = bisect_right(self._site_starts, index) - 1
        stratum = self.strata[where]
        cycle, word = divmod(index - self._site_starts[where], stratum.register.total_bits)
        row, col, bit = (int(x) for x in stratum.register.place(np.array(word)))
        upset = Upset(register=stratum.register.name, row=row, col=col, bits=(bit,), cycle=cycle)
        return Fault(layer=stratum.layer, upset=upset)

    def faults(self, index: Ints) -> FaultBatch:
        """`site` of many indices, in a space of fewer than 2^63 sites."""

        def place(i: int, index: Ints) -> tuple[Ints, Sites]:
            stratum = self.strata[i]
            cycle, word = np.divmod(index - self._site_starts[i], stratum.register.total_bits)
            at = Sites(*stratum.register.place(word), cycle)
            return stratum.register.lifetime.offset(stratum.plan, at)[0], at

        return self._batch(index, np.array(self._site_starts[1:]), place)

    def check(self, fault: Fault) -> None:
        """Raise BadConfig where the fault, of any kind, is not in a place and cycle of this space."""
        stratum, u = self._stratum_of(fault)[1], fault.upset
        wrong = stratum.register.check_place(u.row, u.col, u.bits)
        if wrong is None and u.cycle >= stratum.plan.window_cycles:
            wrong = f"cycle {u.cycle}; allowed: 0 to {stratum.plan.window_cycles - 1} in this layer"
        if wrong is not None:
            raise BadConfig(f"{fault}: {wrong}.")

    def index(self, fault: Fault) -> int:
        """The inverse of `site`; raises BadConfig for a site this space does not have."""
        self.check(fault)
        where, stratum = self._stratum_of(fault)
        u = fault.upset
        if u.kind != "flip" or len(u.bits) != 1:
            raise BadConfig(f"{u.kind} of bits {u.bits}; allowed in this space: a flip of one bit.")
        word = int(stratum.register.index(*(np.array(x) for x in (u.row, u.col, u.bits[0]))))
        return self._site_starts[where] + u.cycle * stratum.register.total_bits + word

    def indices(self, faults: FaultBatch) -> list[int]:
        """`index` of many faults."""
        result = [0] * len(faults)
        for start, stratum in zip(self._site_starts, self.strata, strict=False):
            chosen = np.flatnonzero(
                (faults.layer == stratum.layer) & (faults.register == stratum.register.code)
            )
            at = faults[chosen].sites
            words = stratum.register.index(at.row, at.col, at.bit)
            bits = stratum.register.total_bits
            for i, cycle, word in zip(chosen.tolist(), at.cycle.tolist(), words.tolist(), strict=True):
                result[i] = start + cycle * bits + word
        return result

    def is_live(self, fault: Fault) -> bool:
        """Can this fault reach a written result? Asked of every bit, in the cycle in which a flip happens, in any
        for what lasts."""
        _, stratum = self._stratum_of(fault)
        u = fault.upset
        if u.kind != "flip":
            return bool(stratum.live > 0)
        bits = np.array(u.bits)
        row, col, cycle = (np.full_like(bits, x) for x in (u.row, u.col, u.cycle))
        at = Sites(row, col, bits, cycle)
        return bool((stratum.register.lifetime.offset(stratum.plan, at)[1] >= 0).any())

    def _stratum_of(self, fault: Fault) -> tuple[int, Stratum]:
        for where, stratum in enumerate(self.strata):
            if stratum.layer == fault.layer and stratum.register.name == fault.upset.register:
                return where, stratum
        layers = sorted({s.layer for s in self.strata})
        names = sorted({s.register.name for s in self.strata})
        raise BadConfig(
            f"fault in layer {fault.layer}, register {fault.upset.register!r} is outside this space; allowed: "
            f"layers {layers}, registers {', '.join(names)}."
        )

    # ---- drawing among the live sites

    def live_faults(self, index: Ints) -> FaultBatch:
        """The faults with these live indices, each in [0, live)."""

        def place(i: int, index: Ints) -> tuple[Ints, Sites]:
            stratum = self.strata[i]
            offset = index - (self._live_ends[i] - stratum.live)
            fold = np.searchsorted(stratum.fold_ends, offset, side="right")
            before = np.where(fold > 0, stratum.fold_ends[fold - 1], 0)
            return fold, stratum.register.lifetime.site(stratum.plan, fold, offset - before)

        return self._batch(index, self._live_ends, place)

    def _batch(self, index: Ints, ends: Ints, place: Callable[[int, Ints], tuple[Ints, Sites]]) -> FaultBatch:
        """ends: where the indices of each stratum end. place: of a stratum's, (fold, sites)."""
        where = np.searchsorted(ends, index, side="right")
        columns = {name: np.empty(len(index), np.int64) for name in FaultBatch.__slots__}
        for i in np.unique(where).tolist():
            stratum, chosen = self.strata[i], where == i
            columns["layer"][chosen] = stratum.layer
            columns["register"][chosen] = stratum.register.code
            columns["fold"][chosen], at = place(i, index[chosen])
            for name, column in zip(Sites._fields, at, strict=True):
                columns[name][chosen] = column
        return FaultBatch(**columns)

    def draw(self, rng: np.random.Generator, count: int) -> FaultBatch:
        """`count` live faults, uniform and independent."""
        return self.live_faults(rng.integers(0, self.live, count))

    def draw_in(self, rng: np.random.Generator, stratum: Ints) -> FaultBatch:
        """A live fault in each of these strata (indices, live ones), uniform and independent."""
        live = np.diff(self._live_ends, prepend=0)[stratum]
        return self.live_faults(self._live_ends[stratum] - live + rng.integers(0, live))

    def stratum_of(self, faults: FaultBatch) -> Ints:
        """(faults,) the index of each one's stratum."""
        codes = 1 + max(s.register.code for s in self.strata)
        index = np.full((1 + max(s.layer for s in self.strata)) * codes, -1)
        index[[s.layer * codes + s.register.code for s in self.strata]] = np.arange(len(self.strata))
        found: Ints = index[faults.layer * codes + faults.register]
        return found

    @property
    def word_bits(self) -> int:
        """Those of the widest register."""
        return max(s.register.bits for s in self.strata)

    def live_bits(self, faults: FaultBatch) -> npt.NDArray[np.bool_]:
        """(faults, bits of the widest register): which bits of the struck word are live in that cycle."""
        live, stratum = np.zeros((len(faults), self.word_bits), np.bool_), self.stratum_of(faults)
        for i in np.unique(stratum):
            chosen = np.flatnonzero(stratum == i)
            live[chosen, : self.strata[i].register.bits] = _live_bits(self.strata[i], faults[chosen].sites)
        return live


def _live_bits(stratum: Stratum, at: Sites) -> npt.NDArray[np.bool_]:
    """(faults, bits of the register). Live bits of a word are a run (`StruckWords`): if both ends are live, all are."""
    bits = stratum.register.bits
    whole = _live_at_bit(stratum, at, 0) & _live_at_bit(stratum, at, bits - 1)
    live = np.repeat(whole[:, np.newaxis], bits, axis=1)
    some = np.flatnonzero(~whole)
    within = Sites(*(column[some] for column in at))
    for bit in range(bits if len(some) else 0):
        live[some, bit] = _live_at_bit(stratum, within, bit)
    return live


def _live_at_bit(stratum: Stratum, at: Sites, bit: int) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (
        stratum.register.lifetime.offset(stratum.plan, at._replace(bit=np.full_like(at.bit, bit)))[1] >= 0
    )
    return found


def check_exact(array: ArraySpec) -> None:
    """A network computes on the array what ONNX Runtime computes only if no sum is cut; raises BadConfig otherwise."""
    if array.psum_bits >= array.exact_psum_bits and array.acc_bits == 32 and array.requantiser == "float32":
        return
    raise BadConfig(
        f"array {array.name!r}: psum_bits={array.psum_bits}, acc_bits={array.acc_bits}, requantiser="
        f"{array.requantiser!r}; allowed for a network: psum_bits from {array.exact_psum_bits}, acc_bits=32, "
        "requantiser='float32', or its answers are not those of ONNX Runtime. Change the array."
    )


def _check_widths(array: ArraySpec, graph: QuantGraph) -> None:
    wide = [layer.name for layer in graph.layers if layer.act_bits > array.act_bits]
    if wide:
        raise BadConfig(
            f"layer {wide[0]!r} streams 16-bit activations; allowed on {array.name!r}: {array.act_bits} bits. Use an "
            "array with act_bits=16 and psum_bits=32."
        )


def _strata(
    graph: QuantGraph,
    array: ArraySpec,
    registers: Sequence[str] | None,
    layers: Sequence[int | str] | None,
) -> tuple[Stratum, ...]:
    chosen = inventory(array) if registers is None else registers_named(array, registers)
    strata = []
    for layer in range(len(graph.layers)) if layers is None else _layer_indices(graph, layers):
        mac = graph.layers[layer]
        plan = plan_of(array, mac)
        for entry in sorted(chosen, key=lambda r: r.code):
            count = entry.lifetime.count(plan)
            strata.append(
                Stratum(
                    layer=layer,
                    layer_name=mac.name,
                    register=entry,
                    plan=plan,
                    sites=entry.total_bits * plan.window_cycles,
                    live=int(count.sum()),
                    fold_ends=np.cumsum(count),
                )
            )
    return tuple(strata)


def layer_index(names: Sequence[str], wanted: int | str) -> int:
    """A MAC layer by name or index; raises BadConfig with the list of both."""
    text = str(wanted)
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    listed = ", ".join(f"{i}={name}" for i, name in enumerate(names))
    hint = did_you_mean(text, names)
    raise BadConfig(f"layer {wanted!r} is not a MAC layer of the network{hint}; allowed: {listed}.")


def _layer_indices(graph: QuantGraph, layers: Sequence[int | str]) -> list[int]:
    names = [layer.name for layer in graph.layers]
    return sorted({layer_index(names, wanted) for wanted in layers})


def _given(names: Sequence[object] | None) -> str:
    return "all" if names is None else repr(list(names))
