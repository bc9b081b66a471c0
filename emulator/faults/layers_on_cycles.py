"""Layers kept ready for the cycle engine: its golden run takes about as long as three faults."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ReferenceType, ref

from emulator.array.checkpoint import SNAPSHOT_BYTES, LayerOnCycles
from emulator.array.spec import ArraySpec
from emulator.graph.golden import Golden, Inference

# Of a large layer one and the next; of small ones more.
ROOM_BYTES = 2 * SNAPSHOT_BYTES

Key = tuple[ReferenceType[Golden], ReferenceType[Inference], ArraySpec, int]


class LayersOnCycles:
    """Those used last, within ROOM_BYTES; images are not kept for their sake."""

    def __init__(self) -> None:
        self._layers: dict[Key, LayerOnCycles] = {}

    def get(
        self,
        golden: Golden,
        image: Inference,
        array: ArraySpec,
        layer: int,
        make: Callable[[], LayerOnCycles],
    ) -> LayerOnCycles:
        """MAC layer `layer` of this image."""
        key = ref(golden), ref(image), array, layer
        found = self._layers.pop(key, None)
        if found is None:
            # Before another is made there is room for the largest.
            while self.nbytes > ROOM_BYTES - SNAPSHOT_BYTES:
                del self._layers[next(iter(self._layers))]
            found = make()
        self._layers[key] = found
        return found

    @property
    def nbytes(self) -> int:
        """Of all that are kept."""
        return sum(layer.nbytes for layer in self._layers.values())
