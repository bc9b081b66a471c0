"""Facts about named arrays, as plain numbers: the fields of an ArraySpec and where each of them comes from.

"Estimated" marks what no public source states. Gemmini, as cited here: Genc et al., "Gemmini: Enabling
Systematic Deep-Learning Architecture Evaluation via Full-Stack Integration", DAC'21, and its repository
github.com/ucb-bar/gemmini. TPU v1: Jouppi et al., "In-Datacenter Performance Analysis of a Tensor Processing
Unit", ISCA'17. psum_bits is everywhere act_bits + wgt_bits + ceil(log2 rows), so that a column sums exactly.
"""

from __future__ import annotations

Preset = dict[str, int | float | str]

_GEMMINI_16: Preset = {
    "name": "gemmini-16",
    "rows": 16,  # Gemmini Configs.scala, defaultConfig: meshRows = 16, tileRows = 1
    "cols": 16,  # meshColumns = 16, tileColumns = 1
    "dataflow": "ws",  # ours: both are built in, software chooses at run time
    "dataflows": "both",  # dataflow = Dataflow.BOTH, the default of earlier versions; later ones build WS only
    "act_bits": 8,  # inputType = SInt(8.W)
    "wgt_bits": 8,  # inputType = SInt(8.W)
    "psum_bits": 20,  # spatialArrayOutputType = SInt(20.W)
    "acc_bits": 32,  # accType = SInt(32.W)
    "bank_bits": 32,  # PE.scala: c1 and c2 hold an accType where OS is built in
    "acc_rows": 1024,  # acc_capacity = 64 KiB of 16 x 4 bytes: 2 banks x 512 rows
    # sp_capacity = 256 KiB of 16 bytes: 4 banks x 4096 rows, any row for any operand (later versions: 128 KiB).
    "act_buffer_rows": 8192,  # half of them, our split
    "wgt_buffer_rows": 8192,  # the other half
    "overflow": "wrap",  # measured on the generated RTL: neither partial sums nor accumulators saturate
    "requantiser": "float32",  # acc_scale_args: multiply by a Float(8, 24)
    "clock_hz": 1e9,  # estimated: a nominal clock, the generator has none
}

PRESETS: dict[str, Preset] = {
    "gemmini-16": _GEMMINI_16,
    "gemmini-16-ws-only": {
        **_GEMMINI_16,
        "name": "gemmini-16-ws-only",
        "dataflows": "ws",  # Gemmini Configs.scala, leanConfig: defaultConfig with Dataflow.WS
        "bank_bits": 8,  # PE.scala: c1 and c2 hold an inputType in a WS build
    },
    # The default machine at half the size, ours: handy in tests and examples.
    "gemmini-8": {
        **_GEMMINI_16,
        "name": "gemmini-8",
        "rows": 8,  # half
        "cols": 8,  # half
        "psum_bits": 19,  # 8 + 8 + 3
        "acc_rows": 512,  # half
        "act_buffer_rows": 4096,  # half
        "wgt_buffer_rows": 4096,  # half
    },
    "gemmini-32": {
        **_GEMMINI_16,
        "name": "gemmini-32",
        "rows": 32,  # Gemmini DSEConfigs.scala, pnr32Config: meshRows = 32
        "cols": 32,  # meshColumns = 32
        "psum_bits": 21,  # 8 + 8 + 5; pnr32Config itself has outputType = SInt(20.W), which can wrap
        "acc_rows": 1024,  # acc_capacity = 128 KiB of 32 x 4 bytes
        "act_buffer_rows": 8192,  # sp_capacity = 512 KiB of 32 bytes: 16384 rows, half of them
        "wgt_buffer_rows": 8192,  # the other half
    },
    "tpu-v1": {
        "name": "tpu-v1",
        "rows": 256,  # ISCA'17 sec. 2: 256 x 256 MACs
        "cols": 256,  # the same
        "dataflow": "ws",  # ISCA'17 sec. 2: weights are preloaded, data flows in from the left
        "dataflows": "ws",  # ISCA'17 describes no other
        "act_bits": 8,  # ISCA'17 sec. 2: signed or unsigned 8-bit; its 16-bit modes are not modelled
        "wgt_bits": 8,  # the same
        "psum_bits": 24,  # 8 + 8 + 8; ISCA'17 gives 16-bit products and 32-bit accumulators, no width between
        "acc_bits": 32,  # ISCA'17 sec. 2: 32-bit accumulators
        "bank_bits": 8,  # ISCA'17 sec. 2: one 64 KiB tile of weights and one for double buffering
        "acc_rows": 4096,  # ISCA'17 sec. 2: 4096 x 256 (4 MiB), 2048 doubled for double buffering
        "act_buffer_rows": 98304,  # ISCA'17 sec. 2: 24 MiB unified buffer, 96 Ki rows of 256 bytes (SECDED)
        "wgt_buffer_rows": 1024,  # ISCA'17 sec. 2: weight FIFO, four tiles of 256 rows deep
        "overflow": "wrap",  # estimated: ISCA'17 doesn't say
        "requantiser": "fixed-point",  # estimated: ISCA'17 doesn't describe the arithmetic of its activation unit
        "clock_hz": 700e6,  # ISCA'17 table 2: 700 MHz
    },
    # An edge-class array after Google's Edge TPU, of which little is published.
    "edge-64": {
        "name": "edge-64",
        "rows": 64,  # 64 x 64 PEs: Boroumand et al., arXiv 2109.14320 (PACT'21), as summarised; not read in full
        "cols": 64,  # the same
        "dataflow": "ws",  # estimated
        "dataflows": "ws",  # estimated
        "act_bits": 8,  # Coral documentation (coral.ai/docs): int8 TensorFlow Lite models only
        "wgt_bits": 8,  # the same
        "psum_bits": 22,  # 8 + 8 + 6
        "acc_bits": 32,  # TensorFlow Lite's int8 scheme: int32 accumulators (Jacob et al., CVPR'18)
        "bank_bits": 8,  # estimated: as narrow as the weights
        "acc_rows": 2048,  # estimated: 512 KiB
        "act_buffer_rows": 65536,  # estimated: half of the about 8 MB of on-chip memory that coral.ai/docs names
        "wgt_buffer_rows": 65536,  # estimated: the other half
        "overflow": "wrap",  # estimated
        "requantiser": "fixed-point",  # TensorFlow Lite's int8 scheme: int32 multiplier and right shift
        "clock_hz": 480e6,  # estimated, as often quoted: 2 x 64 x 64 x 480 MHz = 3.9e12/s; coral.ai: 4 TOPS
    },
}
