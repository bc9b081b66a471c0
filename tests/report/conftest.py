"""A synthetic campaign on a 16 x 16 array: trials drawn from a seeded model of who is vulnerable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.campaign.manifest import SCHEMA, campaign_digest, write_manifest
from emulator.campaign.parts import encoded_part, write_part
from emulator.campaign.results import Results
from emulator.campaign.schema import MASKED_AT

CHUNK = 2000
REGISTERS = {"pe_a": 8, "pe_b": 20, "pe_d": 20, "pe_c1": 32, "pe_c2": 32, "accumulator": 32}
LIVE = {"pe_a": 0.62, "pe_b": 0.58, "pe_d": 0.11, "pe_c1": 0.09, "pe_c2": 0.09, "accumulator": 0.06}
LAYERS = {"conv1": 0.012, "conv2": 0.02, "conv3": 0.035, "conv4": 0.045, "fc1": 0.06, "fc2": 0.11}
CYCLES = {"conv1": 14_161, "conv2": 28_337, "conv3": 21_905, "conv4": 9_313, "fc1": 2_577, "fc2": 305}
ALPHA = 0.3


def breakdown() -> list[dict[str, Any]]:
    rows = []
    for index, layer in enumerate(LAYERS):
        for register, bits in REGISTERS.items():
            count = 1024 * 16 if register == "accumulator" else 256
            sites = count * bits * CYCLES[layer]
            live = int(sites * LIVE[register] * (0.3 if register == "accumulator" and index > 3 else 1.0))
            rows.append(
                {"layer": index, "layer_name": layer, "register": register, "sites": sites, "live": live}
            )
    return rows


def manifest(sampler: str, trials: int) -> dict[str, Any]:
    rows = breakdown()
    scheme = {"name": "importance", "alpha": ALPHA, "score": "soft crossing"}
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "model": {
            "name": "digits_cnn_int8",
            "path": "models/digits/digits_cnn_int8.onnx",
            "sha256": "5e" * 32,
        },
        "inputs": {"path": "models/digits/test.npz", "sha256": "a7" * 32, "samples": 360},
        "array": {"name": "gemmini-16", "rows": 16, "cols": 16, "dataflow": "ws", "psum_bits": 20},
        "fault": {"kind": "flip", "bits": 1},
        "registers": list(REGISTERS),
        "layers": [
            {
                "index": i,
                "name": name,
                "op": "Conv" if name.startswith("conv") else "Gemm",
                "m": 64,
                "k": 144,
                "n": 32,
                "groups": 1,
                "macs": 64 * 144 * 32,
                "cycles": CYCLES[name],
                "window_cycles": CYCLES[name],
            }
            for i, name in enumerate(LAYERS)
        ],
        "sampler": scheme if sampler == "importance" else {"name": "uniform", "alpha": 1.0},
        "seed": 7,
        "chunks": {"first": CHUNK},
        "stop": {"max_trials": trials},
        "looked": False,
        "space": {
            "size": sum(r["sites"] for r in rows),
            "live": sum(r["live"] for r in rows),
            "breakdown": rows,
        },
        "versions": {"numpy": "2.4", "onnxruntime": "1.32", "python": "3.11.7"},
    }


def population(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Live sites, drawn as the breakdown counts them, and the probability that each changes the answer."""
    rows = breakdown()
    live = np.array([r["live"] for r in rows], float)
    group = rng.choice(len(rows), size, p=live / live.sum())
    layer = np.array([r["layer"] for r in rows])[group]
    register = np.array([r["register"] for r in rows])[group]
    width = np.where(np.isin(register, ["pe_c1", "pe_c2"]), 8, [REGISTERS[name] for name in register])
    bit = (rng.random(size) * width).astype(int)
    row = np.where(register == "accumulator", rng.integers(0, 1024, size), rng.integers(0, 16, size))
    col, margin = rng.integers(0, 16, size), rng.gamma(3.0, 9.0, size)
    weight = np.array(list(LAYERS.values()))[layer]
    size_of_error = 1 / (1 + np.exp(-(bit - np.where(width == 8, 4.5, 13.0))))
    place = 1 + 0.8 * (15 - col) / 15 * (register == "pe_a") + 0.5 * (row % 16) / 15
    chance = np.clip(2.5 * weight * size_of_error * place * np.exp(-margin / 14), 0, 0.95)
    return {
        "layer": layer,
        "register": register,
        "bit": bit,
        "row": row,
        "col": col,
        "margin_golden": margin,
        "chance": chance,
    }


def outcome(rng: np.random.Generator, site: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    n = len(site["chance"])
    sdc1 = rng.random(n) < site["chance"]
    stage = np.where(site["bit"] < 5, 2, rng.choice([1, 2, 3, 4, 5], n, p=[0.05, 0.2, 0.15, 0.4, 0.2]))
    stage[sdc1] = 5
    golden = rng.integers(0, 10, n)
    return {
        "masked_at": np.array(MASKED_AT)[stage],
        "sdc1": sdc1,
        "sdc5": sdc1 & (rng.random(n) < 0.1),
        "sdc10": sdc1 | (rng.random(n) < 0.02),
        "sdc20": sdc1,
        "due": np.zeros(n, bool),
        "tie": sdc1 & (rng.random(n) < 0.12),
        "top1_golden": golden,
        "top1_faulty": np.where(sdc1, (golden + 1 + rng.integers(0, 9, n)) % 10, golden),
    }


def write_campaign(directory: Path, sampler: str, trials: int, seed: int = 7) -> Results:
    rng = np.random.default_rng([seed, sampler == "importance"])
    pool = population(np.random.default_rng(1), 400_000)
    size = len(pool["chance"])
    score = np.sqrt(pool["chance"]) + 1e-4 if sampler == "importance" else np.ones(size)
    alpha = ALPHA if sampler == "importance" else 1.0
    q = (1 - alpha) * score / score.sum() + alpha / size
    write_manifest(directory, manifest(sampler, trials))
    names, digest = np.array(list(LAYERS)), campaign_digest(directory)
    for chunk in range(trials // CHUNK):
        drawn = rng.choice(size, CHUNK, p=q)
        site = {name: values[drawn] for name, values in pool.items()}
        error = 2 ** site["bit"].astype(np.int64)
        zero, one = np.zeros(CHUNK, np.int32), np.ones(CHUNK, np.int32)
        trials = (
            outcome(rng, site)
            | {name: site[name] for name in ("layer", "register", "row", "col", "margin_golden")}
            | dict.fromkeys(("tile", "row_fold", "col_fold", "k_fold"), zero)
            | {
                "trial_id": chunk * CHUNK + np.arange(CHUNK),
                "fault_id": np.array([f"{i:08x}" for i in drawn]),
                "chunk": np.full(CHUNK, chunk),
                "seed": np.full(CHUNK, 7),
                "input_id": drawn % 360,
                "layer_name": names[site["layer"]],
                "cycle": rng.integers(0, 300, CHUNK),
                "bits": error,
                "kind": np.full(CHUNK, "flip"),
                "until_cycle": np.full(CHUNK, -1),
                "stratum": np.full(CHUNK, sampler),
                "log_weight": np.log(1 / (size * q[drawn])),
                "score": q[drawn],
                "engine": np.full(CHUNK, "closed-form"),
                "class_size": one,
                "n_corrupt_acc": one,
                "max_abs_delta_acc": error,
                "n_corrupt_out": one,
            }
        )
        write_part(directory, chunk, encoded_part(chunk, trials, digest))
    return Results.open(directory)


@pytest.fixture(scope="session")
def importance(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write_campaign(tmp_path_factory.mktemp("runs") / "importance", "importance", 20_000)


@pytest.fixture(scope="session")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write_campaign(tmp_path_factory.mktemp("runs") / "uniform", "uniform", 20_000)
