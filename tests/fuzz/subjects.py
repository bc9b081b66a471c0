"""What the fuzzer damages and who reads it: model files, data, configurations and array files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from forked import Case
from mutations import CONFIGURATIONS, DATA, MODELS, Mutation

from emulator.array.spec import ArraySpec
from emulator.campaign.config import load_array, read_config
from emulator.campaign.inputs import load_samples
from emulator.campaign.template import TEMPLATE
from emulator.graph.golden import Golden
from emulator.graph.load import Network, load

ROOT = Path(__file__).parents[2]
DIGITS, TEST = ROOT / "models/digits/digits_cnn_int8.onnx", ROOT / "models/digits/test.npz"
LARGEST_BYTES = 40_000  # large files are damaged in their weights only, nearly always


@dataclass(frozen=True)
class Fuzz:
    """Cases by seed. Everything is read once undamaged, so that forked processes find it compiled."""

    kinds: Sequence[str] = ("model", "data", "config", "array")

    @cached_property
    def network(self) -> Network:
        return load(DIGITS)

    @cached_property
    def golden(self) -> Golden:
        return Golden(self.network.graph)

    @cached_property
    def models(self) -> list[Path]:
        """The undamaged models: small, readable, and each in one file."""
        found = sorted((ROOT / "tests/data/models").glob("*.onnx"))
        small = [path for path in found if path.stat().st_size <= LARGEST_BYTES]
        return [DIGITS, *(p for p in small if not p.with_suffix(".bin").exists() and _runs(p))]

    def warm(self) -> None:
        _ = self.models
        with np.load(TEST) as arrays:
            self.golden.run(arrays["inputs"][0])

    def cases(self, seeds: Sequence[int]) -> Iterator[Case]:
        for seed in seeds:
            yield self.case(seed)

    def case(self, seed: int) -> Case:
        """Models are seven in ten."""
        rng = np.random.default_rng(seed)
        kind = self.kinds[0] if rng.integers(10) < 7 else self.kinds[int(rng.integers(len(self.kinds)))]
        mutations, file, data, subject = self._of(kind, rng)
        mutation = mutations[int(rng.integers(len(mutations)))]
        source = f" of {data.name}" if isinstance(data, Path) else ""
        given = data.read_bytes() if isinstance(data, Path) else data.encode()
        return Case(
            name=f"seed {seed}: {mutation.__name__}{source} ({kind})",
            file=file,
            make=partial(mutation, given, rng),
            subject=subject,
        )

    def _of(
        self, kind: str, rng: np.random.Generator
    ) -> tuple[Sequence[Mutation], str, Path | str, Callable[[Path], None]]:
        if kind == "model":
            return MODELS, "model.onnx", self.models[int(rng.integers(len(self.models)))], run_model
        if kind == "data":
            return DATA, "inputs.npz", TEST, self.run_data
        if kind == "config":
            return CONFIGURATIONS, "campaign.toml", _config(), run_config
        return CONFIGURATIONS, "array.toml", _array(), run_array

    def run_data(self, path: Path) -> None:
        samples = load_samples(path, self.network.graph)
        self.golden.run(samples.inputs[0])


def run_model(path: Path) -> None:
    """Load, and one inference on ones."""
    graph = load(path).graph
    Golden(graph).run({spec.name: np.ones(spec.shape, spec.dtype) for spec in graph.inputs})


def run_config(path: Path) -> None:
    read_config(path, {}).campaign()


def run_array(path: Path) -> None:
    load_array(str(path))


def _runs(path: Path) -> bool:
    from emulator.errors import EmulatorError

    try:
        run_model(path)
    except EmulatorError:
        return False
    return True


def _config() -> str:
    return TEMPLATE.replace("model.onnx", str(DIGITS)).replace("test.npz", str(TEST))


def _array() -> str:
    """A preset, written as a file."""
    spec = ArraySpec.preset("gemmini-16")
    values = {name: getattr(spec, name) for name in spec.__slots__}
    return "\n".join(f"{name} = {_toml(value)}" for name, value in values.items() if value is not None)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'
