"""Which answer each command gives with --json. docs/json.md is made of these."""

from __future__ import annotations

from typing import Any, Union

from pydantic import BaseModel, TypeAdapter

from emulator.choices import one_of
from emulator.cli.schemas import campaigns, error_rates, faults, hardening, networks, tool

ANSWERS: dict[str, tuple[type[BaseModel], ...]] = {
    "demo": (campaigns.Demo,),
    "init": (campaigns.Template,),
    "run": (campaigns.Ran, campaigns.Plan),
    "status": (campaigns.Status, hardening.TrainingStatus),
    "report": (campaigns.Report,),
    "compare": (campaigns.Compared,),
    "inspect": (networks.Inspected, networks.InspectedArray, networks.Arrays),
    "quantize": (networks.Quantized,),
    "check": (networks.CheckedDeployment, networks.Checked),
    "restrict": (networks.Restricted,),
    "inject": (faults.Injected, faults.InjectedTogether, faults.InjectedEach),
    "replay": (faults.Injected,),
    "rank": (faults.Ranking,),
    "search": (faults.Search,),
    "ber": (error_rates.ErrorRates,),
    "train": (hardening.Trained,),
    "checksum": (hardening.Checksums,),
    "protect": (hardening.Protected,),
    "info": (tool.Info,),
    "schema": (tool.Schemas,),
}
"""By command; of several, which one the options or what they name decide."""


def answer_of(command: str) -> TypeAdapter[Any]:
    """What validates the answer of a command, and has its JSON Schema; raises BadConfig for an unknown command."""
    shapes: Any = Union[ANSWERS[one_of(list(ANSWERS), command, "command")]]  # noqa: UP007
    return TypeAdapter(shapes)
