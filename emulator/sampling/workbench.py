"""What samplers and trials work with: a network on an array, a set of images, and what is known about each image
(golden run, Jacobians), computed when first asked for and kept within a budget."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.errors import UnsupportedModel
from emulator.faults.footprint import operand_bytes
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden, Inference
from emulator.graph.golden_pool import GoldenPool, PoolFile
from emulator.graph.load import Network
from emulator.graph.qgraph import Sample
from emulator.propagate.outcome import margin
from emulator.propagate.propagator import Propagator
from emulator.sampling.kept import Kept
from emulator.sensitivity.finite_difference import FiniteDifferenceSource
from emulator.sensitivity.first_order import margin_slopes
from emulator.sensitivity.gradients import Floats, GradientSource
from emulator.sensitivity.horizon import STRUCK, Horizon, horizons
from emulator.sensitivity.jacobian import JacobianSource, Rivals, Sensitivity, rivals_of
from emulator.sensitivity.outlook import Predictor

T = TypeVar("T")

# Beside the network itself, where nobody says how much there is.
ROOM_BYTES = 3 << 29

# Worth of what is kept: a backward pass for each rival takes longer than one run, a byte of what it leaves.
_RUN, _JACOBIANS = range(2)


class Workbench:
    """One network, one array, one fault space, one set of images; one a process. room: bytes for what is known about
    images, beyond the one at work. pool: golden runs that the processes of a campaign keep for each other."""

    def __init__(
        self,
        network: Network,
        array: ArraySpec,
        space: FaultSpace,
        inputs: Sequence[Sample],
        *,
        room: int = ROOM_BYTES,
        pool: PoolFile | None = None,
    ) -> None:
        self.network = network
        self.array = array
        self.space = space
        self.inputs = inputs
        self.golden = Golden(network.graph)
        self._once: dict[Hashable, Any] = {}
        self.kept = Kept(room)
        self._pool = None if pool is None else GoldenPool(self.golden, pool, len(inputs))
        self._ahead = lru_cache(maxsize=None)(self._look_ahead)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made when first asked for under this key and kept as long as the workbench."""
        if key not in self._once:
            self._once[key] = make()
        found: T = self._once[key]
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
            rivals=self._rivals(image),
            jacobians=self.jacobians(image, lookahead, sensitivity),
        )

    def slopes(self, image: int) -> dict[int, npt.NDArray[np.float64]]:
        """Of each compiled MAC layer, (elements of its output,) d margin / d value in LSB, by gradients."""
        ahead = self._ahead(STRUCK, "gradient")
        jacobians = self.jacobians(image, STRUCK, "gradient")
        return {
            layer: margin_slopes(
                self.golden, self.inference(image), self._rivals(image), jacobians[horizon.tensor]
            )
            for layer, horizon in enumerate(ahead.horizons)
            if horizon is not None
        }

    def inference(self, image: int) -> Inference:
        """The golden run."""
        return self.kept.get(("run", image), _RUN, partial(self._inference, image), self._run_bytes)

    def jacobians(self, image: int, lookahead: int, sensitivity: Sensitivity) -> Mapping[int, Floats]:
        """d logit / d value of the rivals at the tensor of each horizon, (elements, rivals)."""
        key = image, lookahead, sensitivity
        return self.kept.get(key, _JACOBIANS, partial(self._jacobians, *key), _jacobian_bytes)

    def _inference(self, image: int) -> Inference:
        if self._pool is None:
            return self.golden.run(self.inputs[image])
        known = self._pool.get(image, self.inputs[image])
        return self._pool.put(image, self.golden.run(self.inputs[image])) if known is None else known

    def _jacobians(self, image: int, lookahead: int, sensitivity: Sensitivity) -> Mapping[int, Floats]:
        source = self._ahead(lookahead, sensitivity).source
        if source is None:
            return {}
        return source.jacobians(self.inputs[image], self.inference(image), self._rivals(image))

    def _run_bytes(self, run: Inference) -> int:
        """With its operands; pools that lie in the shared file are counted there."""
        own = [array for array in (run.values, run.accumulators) if array.flags.owndata]
        return operand_bytes(self.network.graph, self.array) + sum(
            array.nbytes for array in (*own, *run.host.values())
        )

    def _rivals(self, image: int) -> Rivals:
        return rivals_of(self.golden.logits(self.inference(image)))

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


def _jacobian_bytes(jacobians: Mapping[int, Floats]) -> int:
    return sum(jacobian.nbytes for jacobian in jacobians.values())


class _Ahead(NamedTuple):
    """Where exact propagation ends for one lookahead, and the Jacobians from there, None where it ends nowhere."""

    horizons: tuple[Horizon | None, ...]
    source: JacobianSource | None
