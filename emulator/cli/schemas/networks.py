"""Answers about models and arrays: inspect, quantize, check, restrict."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from emulator.cli.schemas.parts import Estimate, RawFit, Schema


class Cost(Schema):
    """Time on the array, as one convention counts it."""

    cycles: int
    """clock cycles"""
    utilisation: float
    """share of the PEs' cycles that multiply for the result"""
    milliseconds: float
    """at the array's clock"""


class InspectedLayer(Schema):
    """A MAC layer on the array."""

    index: int
    """in the order of execution"""
    name: str
    """in the model"""
    op: str
    """its operator"""
    m: int
    """rows of the product"""
    k: int
    """inner dimension"""
    n: int
    """columns of the product"""
    groups: int
    """products of this shape"""
    macs: int
    """multiply-accumulates"""
    folds: int
    """tiles that the array works through"""
    cycles: int
    """clock cycles, by the engines' convention"""
    utilisation: float
    """share of the PEs' cycles that multiply for the result"""
    window_cycles: int
    """cycles in which a fault may strike"""
    conventions: dict[str, Cost]
    """by convention of counting"""


class InspectedRegister(Schema):
    """A register class; the last three only with a model."""

    name: str
    """as everywhere"""
    geometry: str
    """how its registers lie, in words"""
    registers: int
    """how many"""
    bits_each: int
    """of one register"""
    first_row_bits: int
    """of one in row 0"""
    bits: int
    """of the whole class"""
    storage: str
    """flip-flop or sram"""
    signed: bool
    """is its word signed?"""
    meaning: str
    """what it holds"""
    never_live: bool
    """no upset in it ever matters"""
    live_when: str
    """when one does, in words"""
    raw_fit_per_mbit: float
    """upsets of 10^6 bits in 10^9 hours"""
    raw_fit: float
    """of the class, every upset counted"""
    bit_cycles: int | None = None
    """sites of one inference"""
    live: int | None = None
    """those that can reach a result"""
    live_share: float | None = None
    """live / bit_cycles"""


class Storage(Schema):
    """All registers of one kind of storage."""

    classes: int
    """register classes"""
    bits: int
    """bits"""
    never_live_bits: int
    """those no upset of which ever matters"""


class InspectedAnswer(Schema):
    """Where the network's answer is."""

    output: str
    """name of the output"""
    values: int
    """how many values it has"""


class HostSegment(Schema):
    """Operators that ONNX Runtime runs on the host."""

    name: str
    """of the segment"""
    nodes: list[str]
    """their kinds"""


class Part(Schema):
    """The sites of one register class during one layer."""

    layer: int
    """index of the MAC layer"""
    layer_name: str
    """its name"""
    register_: str = Field(alias="register")
    """the class"""
    sites: int
    """bits x cycles"""
    live: int
    """those that can reach a result"""


class InspectedArray(Schema):
    """`--registers` without a model: what is known of the array."""

    array: str
    """its name"""
    registers: list[InspectedRegister]
    """the inventory"""
    storage: dict[str, Storage]
    """by kind: flip-flop, sram"""
    raw_fit: RawFit
    """the rates that --fit overrides"""


class Inspected(InspectedArray):
    """With a model: also the network on the array."""

    model: str
    """name of the model"""
    clock_hz: float
    """of the array"""
    answer: InspectedAnswer
    """where the answer is"""
    host_segments: list[HostSegment]
    """what is not run by the array nor in integers"""
    not_on_the_array: list[str]
    """MAC layers in float, in words"""
    macs: int
    """multiply-accumulates of one inference"""
    cycles: int
    """clock cycles of one inference"""
    seconds: float
    """the same, at the clock"""
    window_cycles: int
    """cycles in which a fault may strike"""
    conventions: dict[str, Cost]
    """by convention of counting"""
    space_size: int
    """sites of one inference: register bits x cycles"""
    live: int
    """those that can reach a result"""
    live_share: float
    """live / space_size"""
    layers: list[InspectedLayer]
    """in the order of execution"""
    breakdown: list[Part]
    """sites by layer and register"""
    campaigns_refused: str | None
    """why no campaign can run on this array; null if one can"""


class Arrays(Schema):
    """`--arrays`: the presets."""

    arrays: list[dict[str, Any]]
    """each with the fields of ArraySpec, its memories in KiB and its peak in TOPS"""


class Quantized(Schema):
    """A file was written."""

    output: str
    """its path"""
    operators: dict[str, int]
    """how many nodes of each kind"""
    bytes: int
    """its size"""


class Difference(Schema):
    """How far two runs of one tensor are apart."""

    elements: int
    """that differ"""
    max_lsb: int
    """by so much at most"""


class Origin(Difference):
    """Where the optimised file begins to differ."""

    tensor: str
    """its name"""
    operator: str
    """the deployed operator that writes it"""
    fused: list[str]
    """the nodes that were fused into it"""


class CheckedLayer(Schema):
    """A MAC layer over all samples; null for what nothing was compared with."""

    name: str
    """in the model"""
    accumulator_min: int
    """the smallest sum"""
    accumulator_max: int
    """the largest sum"""
    accumulator_bits_needed: int
    """to hold both"""
    accumulator_bits: int
    """that the array has"""
    accumulator_overflowed: int
    """sums that need more"""
    partial_sum_min: int
    """the smallest partial sum in a column"""
    partial_sum_max: int
    """the largest"""
    partial_sum_bits_needed: int
    """to hold both"""
    partial_sum_bits: int
    """that the array has"""
    partial_sum_overflowed: int
    """partial sums that need more"""
    saturated_high_share: float
    """outputs clipped at the upper end"""
    saturated_low_share: float
    """outputs clipped at the lower end"""
    saturated_relu_share: float
    """outputs set to zero by a ReLU"""
    cycles: int
    """replayed by the cycle engine, for --cycle-images"""
    engine_mismatches: int
    """values in which the cycle engine differs"""
    sqnr_db: float | None
    """signal to quantisation noise against the float model, noise of the layers before included"""
    sqnr_worst_channel: int | None
    """output channel where it is lowest; null with one channel, or where no channel differs"""
    sqnr_worst_channel_db: float | None
    """of that channel"""
    sqnr_low_channels: int | None
    """channels below 10 dB"""
    bias_clipped: int
    """int32 biases that saturate"""
    bias_wrapped: int
    """int32 biases that wrap with the zero point folded in"""


class CheckedInput(Schema):
    """What the quantiser of an input can't hold, over all samples."""

    name: str
    """of the input, or of those that the quantised values are made of"""
    lowest: float
    """of its values that the scale holds"""
    highest: float
    """likewise"""
    saturated_high_share: float
    """values above"""
    saturated_low_share: float
    """values below"""


class Checked(Schema):
    """Exit code 1 where ok is false; warnings leave 0."""

    ok: bool
    """every tensor, both engines and every operator of the original file agree"""
    warnings: list[str]
    """what may surprise, and what to do about it"""
    samples: int
    """that were run"""
    tensors: int
    """compared with ONNX Runtime, bit for bit"""
    mismatched_tensors: int
    """that differ"""
    mismatches: dict[str, int]
    """differing elements, by tensor"""
    engine_mismatches: int
    """values in which the cycle engine differs"""
    top1_agreement: float | None
    """share of samples with the answer of the optimised original file; null with nothing to check"""
    accuracy: float | None
    """of the emulator; null without labels"""
    layers: list[CheckedLayer]
    """in the order of execution"""


class CheckedDeployment(Checked):
    """Of a model with integer layers: also how the original file behaves."""

    top1_agreement: float
    """share of samples with the answer of the optimised original file"""
    top1_agreement_float: float | None
    """with that of the float model; null without one"""
    accuracy_original: float | None
    """of the optimised original file; null without labels"""
    accuracy_float: float | None
    """of the float model; null without labels or one"""
    classes_at_maximum: float
    """on average: more than 1 means ties"""
    tied_share: float
    """samples whose answer is a tie"""
    inputs: list[CheckedInput]
    """where inputs are quantised; none for integer inputs and dynamic quantisation"""
    dead_outputs: list[str]
    """outputs that say nothing, and why"""
    original_operators: dict[str, Difference]
    """the file unoptimised, each operator given the emulator's integers"""
    original_end_to_end: dict[str, Difference]
    """the file unoptimised, as a whole"""
    original_optimised: dict[str, Difference]
    """the file as it is deployed, as a whole"""
    original_optimised_differs_first: list[Origin]
    """where a difference begins"""
    original_optimised_float_layers: list[str]
    """MAC layers that stay in float"""


class RestrictedLayer(Schema):
    """The bounds of a layer's result."""

    layer: str
    """its name"""
    tensor: str
    """that is bounded"""
    share: float
    """of the 256 values that is left"""
    stored_bytes: int
    """that hold the bounds; 0 where they leave out nothing"""
    low: list[int]
    """one, or one a channel"""
    high: list[int]
    """likewise"""


class BeforeAfter(Schema):
    """Accuracies; null without labels."""

    before: Estimate | None
    """of the model as it was"""
    after: Estimate | None
    """of the restricted one"""


class Restricted(Schema):
    """A file was written."""

    output: str
    """its path"""
    per: str
    """channel or layer"""
    samples: int
    """that calibrated it"""
    changed: bool
    """false: no bound leaves out a value, the file is the model as it was"""
    layers: list[RestrictedLayer]
    """those with bounds"""
    unbounded: list[str]
    """layers whose result is not int8"""
    accuracy: BeforeAfter
    """on --test, else on the calibration samples"""
