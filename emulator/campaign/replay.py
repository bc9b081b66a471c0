"""Any fault of a campaign again, from its id alone: model, data and array come from the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulator.array.spec import ArraySpec
from emulator.campaign.explain import ASKABLE, Explanation, explain
from emulator.campaign.inputs import load_samples
from emulator.campaign.manifest import read_manifest
from emulator.choices import one_of
from emulator.errors import BadConfig, BadData
from emulator.faults.space import FaultSpace
from emulator.graph.load import load
from emulator.sampling.workbench import Workbench


def replay(
    directory: str | Path,
    fault_id: str,
    *,
    engine: str = "auto",
    model: Path | None = None,
    inputs: Path | None = None,
) -> Explanation:
    """Explain `fault_id` of the campaign in `directory`.

    Raises BadConfig for an id that is not of this campaign, BadData where model or data are no longer those of
    the manifest.
    """
    bench = reopened(read_manifest(Path(directory)), model=model, inputs=inputs)
    chosen = one_of(ASKABLE, engine, "engine")
    image, index = _parse(fault_id, bench.space.size, bench.images)
    return explain(bench, image, bench.space.site(index), chosen)


def reopened(manifest: dict[str, Any], *, model: Path | None = None, inputs: Path | None = None) -> Workbench:
    """The workbench of a campaign again. model, inputs: where they are now, None: as recorded. Raises BadData where
    they are no longer those of the manifest, BadConfig where the inputs came from no file."""
    read = manifest["model"]
    # Of a file it is the whole path; of arrays, words.
    if inputs is None and not Path(manifest["inputs"]["path"]).is_absolute():
        raise BadConfig(
            f"the inputs of this campaign were no file ({manifest['inputs']['path']}); allowed: a file of them. "
            "Save them with numpy.savez(FILE, inputs=ARRAY) and name it (--inputs FILE, in Python inputs=FILE), or "
            "run the campaign on it."
        )
    network = load(model or read["path"], shapes=read["shapes"], answer=read["answer"])
    samples = load_samples(inputs or manifest["inputs"]["path"], network.graph, manifest["inputs"]["samples"])
    for name, stored, now in (
        ("model", manifest["model"]["sha256"], network.sha256),
        ("inputs", manifest["inputs"]["sha256"], samples.sha256),
    ):
        if stored != now:
            raise BadData(
                f"{name} changed since the campaign ran (sha256 {now[:12]}, was {stored[:12]}). Restore it."
            )
    array = ArraySpec(**manifest["array"])
    layers = [layer["index"] for layer in manifest["layers"]]
    space = FaultSpace(network, array, registers=manifest["registers"], layers=layers)
    return Workbench(network, array, space, samples.inputs)


def _parse(fault_id: str, size: int, images: int) -> tuple[int, int]:
    try:
        image, index = divmod(int(fault_id, 16), size)
    except ValueError:
        raise BadConfig(
            f"fault id {fault_id!r}; allowed: hexadecimal digits, as in the fault_id column."
        ) from None
    if not 0 <= image < images:
        raise BadConfig(f"fault id {fault_id!r} is not of this campaign. Copy one from its trials or report.")
    return image, index
