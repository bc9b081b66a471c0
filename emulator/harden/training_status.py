"""How far the training in a directory is, and what it has come to: read from its files alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.harden import checkpoint


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingStatus:
    """name: of the network that is trained. epochs: of the schedule. history: of each epoch that is done, 0 before
    training, as JSON; empty until the first is. model: the file that was written, None until it is finished."""

    name: str
    epochs: int
    history: list[dict[str, Any]] = field(repr=False)
    model: Path | None

    @classmethod
    def of(cls, directory: Path) -> TrainingStatus:
        """Raises BadData where its checkpoint can't be read."""
        settings = checkpoint.settings_in(directory)
        now = checkpoint.read(directory)
        model = directory / checkpoint.MODEL
        return cls(
            name=settings["model"]["name"],
            epochs=settings["schedule"]["epochs"],
            history=[] if now is None else now.history,
            model=model if now is not None and model.exists() else None,
        )

    @property
    def done(self) -> int:
        """Epochs."""
        return max(0, len(self.history) - 1)

    @property
    def milestones(self) -> dict[str, dict[str, Any] | None]:
        """The first, the kept and the last epoch."""
        if not self.history:
            return {"first": None, "kept": None, "last": None}
        return {
            "first": self.history[0],
            "kept": checkpoint.kept_of(self.history),
            "last": self.history[-1],
        }

    def to_json(self) -> dict[str, Any]:
        """What `emulator status --json` prints of a training."""
        return {
            "training": self.name,
            "epochs": self.epochs,
            "done": self.done,
            "finished": self.model is not None,
            "model": self.model and str(self.model),
            **self.milestones,
        }
