"""The columns of a trial (name, type, unit, meaning): one fault on one input, and what became of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

ColumnType = Literal["int16", "int32", "int64", "float32", "float64", "bool", "string", "dictionary"]


class Column(NamedTuple):
    """One column; `dictionary` is a string with few distinct values, `nullable` may hold nulls."""

    name: str
    type: ColumnType
    unit: str
    description: str
    nullable: bool = False


MASKED_AT = ("dead", "array", "requant", "clamp", "network", "none")
"""The stages a fault can die in, in the order it meets them; "none" reached the output."""

OUTCOMES = ("sdc1", "sdc5", "sdc10", "sdc20", "due", "tie")
"""The yes/no columns a rate can be asked of."""

COLUMNS = (
    # identity
    Column(
        "trial_id",
        "int64",
        "1",
        "number of the trial, ascending with the chunks",
    ),
    Column("fault_id", "string", "hex", "the fault; replays with `emulator replay DIR FAULT_ID`"),
    Column("chunk", "int32", "1", "the unit of work and of resuming this trial belongs to"),
    Column("seed", "int64", "1", "seed of the campaign; the chunk's generator is derived from both"),
    Column("input_id", "int32", "1", "index of the input sample"),
    # location
    Column("layer", "int16", "1", "index of the layer"),
    Column("layer_name", "dictionary", "name", "name of the layer in the model"),
    Column("tile", "int32", "1", "index of the fold within the layer"),
    Column("row_fold", "int32", "1", "which block of the rows (m) as the array streams them"),
    Column("col_fold", "int32", "1", "which block of the columns (n), likewise"),
    Column("k_fold", "int32", "1", "which block of the inner dimension (k)"),
    Column("cycle", "int64", "cycle", "first cycle of the layer in which the fault is visible"),
    Column("row", "int32", "1", "row of the PE or of the accumulator"),
    Column("col", "int32", "1", "column of the PE or of the accumulator"),
    Column("register", "dictionary", "name", "struck register, named as in the inventory"),
    Column("bits", "int64", "mask", "struck bits, bit 0 the least significant"),
    Column("kind", "dictionary", "name", "fault model"),
    Column("until_cycle", "int64", "cycle", "end of an intermittent fault; null for others", nullable=True),
    # method
    Column("stratum", "dictionary", "name", "stratum of the sampler the trial was drawn in"),
    Column("log_weight", "float64", "ln", "ln(p / q): population density over the sampler's"),
    Column(
        "score", "float32", "1", "larger for what the sampler holds more likely to be critical; NaN: no rank"
    ),
    Column("engine", "dictionary", "name", "engine that turned the fault into an accumulator error"),
    Column("class_size", "int64", "1", "sites that store the same: drawn with this one, or all (exhaustive)"),
    # outcome
    Column("masked_at", "dictionary", "name", f"stage at which the fault died: {', '.join(MASKED_AT)}"),
    Column("due", "bool", "1", "detected unrecoverable error: a hang or a crash"),
    Column("tie", "bool", "1", "top-1 differs only in the order of equal logits"),
    Column("sdc1", "bool", "1", "top-1 differs from the golden run"),
    Column("sdc5", "bool", "1", "faulty top-1 is outside the golden top-5"),
    Column("sdc10", "bool", "1", "top-1 confidence moves by more than 10 %"),
    Column("sdc20", "bool", "1", "top-1 confidence moves by more than 20 %"),
    Column("top1_golden", "int32", "class", "answer of the golden run"),
    Column("top1_faulty", "int32", "class", "answer of the faulty run"),
    Column("margin_golden", "float32", "LSB", "golden top-1 logit minus the runner-up"),
    # effect
    Column("n_corrupt_acc", "int32", "1", "accumulators that differ from the golden run"),
    Column("max_abs_delta_acc", "int64", "LSB", "largest absolute accumulator error"),
    Column("n_corrupt_out", "int32", "1", "outputs of the layer that differ from the golden run"),
)
