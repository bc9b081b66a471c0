"""What samplers and trials work with: a network on an array, a set of images, and what is known about each image
(golden run, Jacobians), computed when first asked for and kept within a budget."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.errors import UnsupportedModel
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden, Inference
from emulator.graph.golden_pool import GoldenPool
from emulator.graph.load import Network
from emulator.graph.qgraph import Sample
from emulator.propagate.outcome import margin
from emulator.propagate.propagator import Propagator
from emulator.sensitivity.finite_difference import FiniteDifferenceSource
from emulator.sensitivity.first_order import margin_slopes
from emulator.sensitivity.gradients import Floats, GradientSource
from emulator.sensitivity.horizon import STRUCK, Horizon, horizons
from emulator.sensitivity.jacobian import JacobianSource, Sensitivity
from emulator.sensitivity.outlook import Predictor

T = TypeVar("T")

RUNS_BYTES = 512 << 20
JACOBIANS_BYTES = 1 << 30


class Workbench:
    """One network, one array, one fault space, one set of images; one a process. shared: a file in which the processes
    of a campaign keep golden runs for each other (`GoldenPool`)."""

    def __init__(
        self,
        network: Network,
        array: ArraySpec,
        space: FaultSpace,
        inputs: Sequence[Sample],
        *,
        shared: Path | None = None,
    ) -> None:
        self.network = network
        self.array = array
        self.space = space
        self.inputs = inputs
        self.golden = Golden(network.graph)
        self._kept: dict[Hashable, Any] = {}
        self._pool = None if shared is None else GoldenPool(self.golden, shared, len(inputs))
        program = self.golden.program
        streamed = sum(mac.shape.groups * mac.shape.m * mac.shape.k for mac in network.graph.layers)
        per_image = program.value_size + 4 * program.acc_size + streamed
        self.inference = lru_cache(maxsize=max(1, RUNS_BYTES // per_image))(self._inference)
        self._ahead = lru_cache(maxsize=None)(self._look_ahead)
        outputs = sum(layer.shape.m * layer.columns for layer in network.graph.layers)
        self.jacobians = lru_cache(maxsize=max(1, JACOBIANS_BYTES // (4 * network.graph.classes * outputs)))(
            self._jacobians
        )

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made when first asked for under this key and kept as long as the workbench."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    @property
    def images(self) -> int:
        return len(self.inputs)

    @cached_property
    def propagator(self) -> Propagator:
        return Propagator(self.golden)

    @cached_property
    def margins(self) -> npt.NDArray[np.float64]:
        """(images,) golden top-1 minus runner-up, in logit LSB."""
        logits = (self.golden.logits(self.inference(i)) for i in range(self.images))
        return np.array([margin(row) for row in logits])

    @cached_property
    def preference(self) -> npt.NDArray[np.float64]:
        """(images,) probabilities, low-margin images first. The best proposal goes with the mean root of the chance
        that a fault is critical; over the images of a network it falls with the margin to the power of 1.3 to 1.7."""
        preference = (1.0 + self.margins) ** -1.5
        shares: npt.NDArray[np.float64] = preference / preference.sum()
        return shares

    def predictor(self, image: int, lookahead: int, sensitivity: Sensitivity = "gradient") -> Predictor:
        """Foresees faults of `image`: exact through `lookahead` MAC layers after the struck one, linear from there,
        with the slopes of `sensitivity`. Raises UnsupportedModel where the network has no gradient."""
        return Predictor(
            golden=self.golden,
            propagator=self.propagator,
            image=self.inference(image),
            horizons=self._ahead(lookahead, sensitivity).horizons,
            jacobians=self.jacobians(image, lookahead, sensitivity),
        )

    def slopes(self, image: int) -> dict[int, npt.NDArray[np.float64]]:
        """Of each compiled MAC layer, (elements of its output,) d margin / d value in LSB, by gradients."""
        ahead = self._ahead(STRUCK, "gradient")
        jacobians = self.jacobians(image, STRUCK, "gradient")
        return {
            layer: margin_slopes(self.golden, self.inference(image), jacobians[horizon.tensor])
            for layer, horizon in enumerate(ahead.horizons)
            if horizon is not None
        }

    def _inference(self, image: int) -> Inference:
        if self._pool is None:
            return self.golden.run(self.inputs[image])
        known = self._pool.get(image, self.inputs[image])
        return self._pool.put(image, self.golden.run(self.inputs[image])) if known is None else known

    def _jacobians(self, image: int, lookahead: int, sensitivity: Sensitivity) -> Mapping[int, Floats]:
        source = self._ahead(lookahead, sensitivity).source
        return {} if source is None else source.jacobians(self.inputs[image], self.inference(image))

    def _look_ahead(self, lookahead: int, sensitivity: Sensitivity) -> _Ahead:
        found = horizons(self.golden, lookahead)
        tensors = [horizon.tensor for horizon in found if horizon is not None]
        return _Ahead(found, self._source(tensors, sensitivity) if tensors else None)

    def _source(self, tensors: Sequence[int], sensitivity: Sensitivity) -> JacobianSource:
        if sensitivity == "finite-difference":
            return FiniteDifferenceSource(self.golden, tensors)
        try:
            return GradientSource(self.network, tensors)
        except UnsupportedModel as error:
            raise UnsupportedModel(
                f"importance sampling by gradients: {error}. Or take the sensitivity that needs none, "
                "--sensitivity finite-difference, or the sampler that needs neither, --sampler uniform."
            ) from error


class _Ahead(NamedTuple):
    """Where exact propagation ends for one lookahead, and the Jacobians from there, None where it ends nowhere."""

    horizons: tuple[Horizon | None, ...]
    source: JacobianSource | None
