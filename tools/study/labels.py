"""What a sampler is called in the figures."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def label(sampler: Any) -> str:
    """Its name and the settings that are not the usual ones: "importance alpha=0.2"."""
    settings = fields(sampler)
    odd = [f"{f.name}={getattr(sampler, f.name)}" for f in settings if getattr(sampler, f.name) != f.default]
    return " ".join([sampler.name, *odd])
