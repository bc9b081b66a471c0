"""Any fault of a campaign again, from its id alone: model, data and array come from the manifest."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from emulator.array.spec import ArraySpec
from emulator.campaign.explain import ASKABLE, Explanation, explain
from emulator.campaign.inputs import load_samples
from emulator.campaign.manifest import read_manifest
from emulator.campaign.trials import StoredTrials, Trials
from emulator.choices import few, one_of
from emulator.errors import BadConfig, BadData
from emulator.faults.fault import Fault
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
    trials: Trials | None = None,
) -> Explanation:
    """Explain `fault_id`, or the only one that begins so, of the campaign in `directory`; trials: those of it, None:
    the stored ones.

    Raises BadConfig for an id that is not among its trials, BadData where they, the model or the data are no longer
    those of the manifest.
    """
    chosen = one_of(ASKABLE, engine, "engine")
    bench, image, fault = struck(directory, fault_id, model=model, inputs=inputs, trials=trials)
    return explain(bench, image, fault, chosen)


def struck(
    directory: str | Path,
    fault_id: str,
    *,
    model: Path | None = None,
    inputs: Path | None = None,
    trials: Trials | None = None,
) -> tuple[Workbench, int, Fault]:
    """The workbench of the campaign again, the image and the fault of a trial; arguments and errors are those of
    `replay`."""
    manifest = read_manifest(Path(directory))
    whole = whole_id(StoredTrials(Path(directory)) if trials is None else trials, fault_id)
    bench = reopened(manifest, model=model, inputs=inputs)
    image, index = divmod(int(whole, 16), bench.space.size)
    return bench, image, bench.space.site(index)


def whole_id(trials: Trials, fault_id: str) -> str:
    """The id of one of these trials that is `fault_id`, or the only one that begins so, which a warning tells.

    Raises BadConfig where there is none, or several.
    """
    ids = np.unique(trials.column("fault_id"))
    text = fault_id.lower()
    found = [str(one) for one in ids if one == text] or [
        str(one) for one in ids if text and one.startswith(text)
    ]
    if len(found) > 1:
        raise BadConfig(
            f"fault id {fault_id!r}: {len(found)} of the trials begin so ({few(found)}); allowed: one of them. Give "
            "more of its digits."
        )
    if not found:
        example = f"an id of the column fault_id, e.g. {ids[0]}" if len(ids) else "none, there are no trials"
        raise BadConfig(
            f"fault id {fault_id!r} is not among the {len(trials):,} trials; allowed: {example}. To explain any other "
            "site use `emulator inject`."
        )
    if found[0] != text:
        warnings.warn(
            f"fault id {fault_id!r}: taken for {found[0]}, the only one that begins so", stacklevel=4
        )
    return found[0]


def reopened(manifest: dict[str, Any], *, model: Path | None = None, inputs: Path | None = None) -> Workbench:
    """The workbench of a campaign again. model, inputs: where they are now, None: as recorded. Raises BadData where
    they are no longer those of the manifest, BadConfig where the inputs came from no file."""
    read = manifest["model"]
    network = load(model or read["path"], shapes=read["shapes"], answer=read["answer"])
    samples = load_samples(inputs or recorded_inputs(manifest), network.graph, manifest["inputs"]["samples"])
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


def recorded_inputs(manifest: dict[str, Any]) -> Path:
    """The file of the inputs of a campaign; BadConfig where they were arrays."""
    path = Path(manifest["inputs"]["path"])
    # Of a file it is the whole path; of arrays, words.
    if not path.is_absolute():
        raise BadConfig(
            f"the inputs of this campaign were no file ({path}); allowed: a file of them. "
            "Save them with numpy.savez(FILE, inputs=ARRAY) and name it (--inputs FILE, in Python inputs=FILE), or "
            "run the campaign on it."
        )
    return path
