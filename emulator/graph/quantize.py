"""Float to int8: a thin wrapper of onnxruntime.quantization, with its noise and temporary files kept away."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

import onnx

from emulator.errors import BadConfig, UnsupportedModel
from emulator.graph.feeds import Arrays, Data, batches, read_feeds
from emulator.graph.onnx_file import read_onnx, write_onnx
from emulator.graph.overwriting import refuse_to_overwrite
from emulator.graph.session import open_session

Format = Literal["qdq", "qoperator"]
Activation = Literal["int8", "uint8", "int16", "uint16"]
Weight = Literal["int8", "uint8", "int4", "uint4"]
Method = Literal["minmax", "entropy", "percentile"]
Kind = Literal["float", "weight-only", "quantised", "no MAC layer"]

MACS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_INTEGER = {"ConvInteger", "MatMulInteger", "QGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
_INTEGER |= {"QuantizeLinear", "DynamicQuantizeLinear", "QAttention", "DynamicQuantizeLSTM"}
_SMALL = {getattr(onnx.TensorProto, name) for name in ("INT8", "UINT8", "INT4", "UINT4")}
# What stands between a stored weight and the operator that uses it.
_PASSED = {"DequantizeLinear", "Cast", "Mul", "Sub", "Transpose", "Reshape", "Identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """How to quantise; raises BadConfig for what onnxruntime.quantization does not offer.

    activation, weight: int8 or uint8; activations also int16, uint16, weights int4, uint4 (qdq only).
    per_channel: one weight scale an output channel. symmetric: activation zero points of 0.
    method: how activation ranges are chosen from the calibration inputs. dynamic: ranges are taken from each
    input at run time instead, in a graph of DynamicQuantizeLinear with ConvInteger and MatMulInteger.
    """

    format: Format = "qdq"
    activation: Activation = "int8"
    weight: Weight = "int8"
    per_channel: bool = True
    symmetric: bool = False
    method: Method = "minmax"
    dynamic: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise BadConfig(
                    f"{name}={getattr(self, name)!r}; allowed: {', '.join(choices)}. Choose one of them."
                )
        if self.format == "qoperator" and ("16" in self.activation or "4" in self.weight):
            raise BadConfig(
                f"format='qoperator' with activation={self.activation!r}, weight={self.weight!r}; allowed: 8 bits. "
                "Use format='qdq'."
            )
        if self.format == "qoperator" and (self.activation, self.weight) == ("int8", "uint8"):
            raise BadConfig(
                "format='qoperator' with activation='int8', weight='uint8'; allowed: int8 weights, or uint8 for both. "
                "Change one of them, or use format='qdq'."
            )
        if self.dynamic and self.weight not in ("int8", "uint8"):
            raise BadConfig(f"dynamic with weight={self.weight!r}; allowed: int8, uint8. Choose one of them.")


_CHOICES = {
    name: get_args(literal)
    for name, literal in (
        ("format", Format), ("activation", Activation), ("weight", Weight), ("method", Method),
    )
}  # fmt: skip


def quantize(
    model: str | Path | onnx.ModelProto,
    calibration: Data | None = None,
    *,
    options: QuantizeOptions | None = None,
    limit: int | None = None,
    output: str | Path | None = None,
) -> onnx.ModelProto:
    """The quantised form of a float model, by onnxruntime.quantization; written to `output` if given.

    calibration: inputs as the model takes them (.npz, array, or arrays by input name), training data best; not
    needed for dynamic quantisation. limit: the first samples only.

    Raises UnsupportedModel for a model that is quantised already, has no Conv, Gemm or MatMul, or that
    ONNX Runtime can't quantise; BadData for calibration inputs that don't fit; BadConfig without any, and where
    `output` is the model or the calibration file.
    """
    options = options or QuantizeOptions()
    if output is not None:
        refuse_to_overwrite(Path(output), (model, calibration))
    source = read_model(model)
    _refuse_unless_float(source)
    feeds: Arrays | None = None
    if not options.dynamic:
        if calibration is None:
            raise BadConfig(
                "no calibration inputs; allowed: .npz or array of inputs as the model takes them. Give "
                "--calibration X.npz (calibration=...), or quantise dynamically (--dynamic, dynamic=True)."
            )
        feeds = read_feeds(source, calibration, limit)
    with tempfile.TemporaryDirectory(prefix="emulator-quantize-") as folder:
        made = _run(source, feeds, options, Path(folder))
    if kind_of(made) != "quantised":
        raise UnsupportedModel(
            "onnxruntime.quantization left every layer in float; allowed: a model with constant weights and known "
            "shapes. Export with fixed dimensions, or give --shape NAME=1,... for free ones."
        )
    open_session(made)  # what ONNX Runtime can't load is refused here, not where it is used
    if output is not None:
        write_onnx(made, Path(output))
    return made


def read_model(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """The model with its external data; raises UnsupportedModel for what is not an ONNX file."""
    if isinstance(model, onnx.ModelProto):
        return model
    return checked(read_onnx(Path(model))[0], Path(model))


def checked(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model itself; raises UnsupportedModel where onnx's checker refuses it. path: for the message."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's own, and protobuf's
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedModel(
            f"model {str(path)!r} can't be read as ONNX: {reason or type(error).__name__}. Export it again."
        ) from error
    return model


def kind_of(model: onnx.ModelProto) -> Kind:
    """Where its matrix products are computed: in integers (`quantised`), or in float, with float weights
    (`float`) or stored integer ones (`weight-only`)."""
    graph = model.graph
    operators = {node.op_type for node in graph.node}
    if operators & _INTEGER or any(name.startswith("QLinear") for name in operators):
        return "quantised"
    producers = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name for tensor in graph.initializer if tensor.data_type in _SMALL}
    macs = [node for node in graph.node if node.op_type in MACS]
    if "MatMulNBits" in operators or any(_reaches(node.input[1], producers, stored) for node in macs):
        return "weight-only"
    return "float" if macs else "no MAC layer"


def _reaches(name: str, producers: dict[str, onnx.NodeProto], stored: set[str]) -> bool:
    """Does a stored integer tensor lead to this value, through what only scales or moves it?"""
    while name not in stored:
        node = producers.get(name)
        if node is None:
            return False
        if node.op_type == "Constant":
            return any(a.name == "value" and a.t.data_type in _SMALL for a in node.attribute)
        if node.op_type not in _PASSED:
            return False
        name = node.input[0]
    return True


def _refuse_unless_float(model: onnx.ModelProto) -> None:
    kind = kind_of(model)
    if kind == "float":
        return
    fix = {
        "quantised": "It is quantised already: use it as it is, or give the float model it was made from.",
        "weight-only": "Give the float model it was made from.",
        "no MAC layer": "Check that this is the right file.",
    }[kind]
    raise UnsupportedModel(f"model is {kind}; allowed: a float model with Conv, Gemm or MatMul. {fix}")


def _run(
    source: onnx.ModelProto, feeds: Arrays | None, options: QuantizeOptions, folder: Path
) -> onnx.ModelProto:
    from onnxruntime import quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    written, prepared, made = (folder / name for name in ("float.onnx", "prepared.onnx", "made.onnx"))
    onnx.save(source, written)
    try:
        with _quiet():
            # Without its symbolic pass, which needs sympy: the same file on every machine.
            # Given a model instead of a file it changes it, and loses large weights (onnxruntime 1.32).
            quant_pre_process(written, prepared, skip_symbolic_shape=True)
            if feeds is None:
                ort.quantize_dynamic(
                    prepared, made, per_channel=options.per_channel, weight_type=_type(options.weight)
                )
            else:
                ort.quantize_static(prepared, made, _reader(source, feeds), **_static(options))
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        reason = " ".join(str(error).split())[:400]
        raise UnsupportedModel(
            f"onnxruntime.quantization can't quantise the model: {reason or type(error).__name__}. Export it again, "
            "or quantise it where it was trained."
        ) from error
    return onnx.load(made)


def _static(options: QuantizeOptions) -> dict[str, Any]:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    extra: dict[str, Any] = {"ActivationSymmetric": options.symmetric}
    if options.method == "minmax":
        # Ranges are merged after each batch: memory does not grow with the number of samples.
        # (CalibMaxIntermediateOutputs, which is meant for that, forgets all but the last: onnxruntime 1.32.)
        extra["CalibStridedMinMax"] = 1
    return {
        "quant_format": QuantFormat.QDQ if options.format == "qdq" else QuantFormat.QOperator,
        "activation_type": _type(options.activation),
        "weight_type": _type(options.weight),
        "per_channel": options.per_channel,
        "calibrate_method": methods[options.method],
        "extra_options": extra,
    }


def _type(name: str) -> Any:
    """`uint8` to QuantType.QUInt8."""
    from onnxruntime.quantization import QuantType

    return QuantType.from_string("Q" + name.replace("uint", "UInt").replace("int", "Int"))


def _reader(model: onnx.ModelProto, feeds: Arrays) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the calibration inputs over, a batch at a time, of all of them or of a range of batches."""

        def __init__(self) -> None:
            self.batches = batches(model, feeds)
            self.set_range(0, len(self.batches))

        def __len__(self) -> int:
            return len(self.batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.left = iter(self.batches[start_index:end_index])

        def get_next(self) -> Arrays | None:
            return next(self.left, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Prints and log lines of the quantiser go nowhere: errors come as exceptions."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)
