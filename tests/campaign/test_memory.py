"""Memory: what is asked for, what is needed, how it is shared out; what is found does not depend on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.campaign import memory
from emulator.campaign.footprint import Footprint, footprint
from emulator.campaign.inputs import load_samples
from emulator.campaign.memory import available_bytes, bytes_of, share_out, text_of
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig
from emulator.faults.footprint import operand_bytes, run_bytes
from emulator.faults.space import FaultSpace
from emulator.faults.strike import operands
from emulator.graph.golden import Golden
from emulator.sampling.baselines import Gradient
from emulator.sampling.importance import Importance
from emulator.sampling.sampler import Sampler
from emulator.sampling.stopping import max_trials
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.gradients import GradientSource

# Behind each of the pools of a run, 64 values.
PADDING = 64 + 4 * 64
ROOT = Path(__file__).parents[2]
IMAGES = 12


def campaign(digits: Any, sampler: Sampler, **changes: Any) -> Campaign:
    space = FaultSpace(digits.network, digits.array, registers=["pe_b", "accumulator", "seq_pc"])
    settings = {"inputs": digits.data, "limit": IMAGES, "stop": max_trials(1500), "seed": 3, **changes}
    return Campaign(digits.network, digits.array, space, sampler=sampler, **settings)


# ---- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9), ("4 gb", 4 * 10**9), ("4G", 4 * 10**9), ("1.5GiB", 3 << 29), ("512MiB", 512 << 20),
        ("700MB", 700 * 10**6), ("1234567", 1_234_567), (10**9, 10**9), ("2TB", 2 * 10**12), ("10kB", 10_000),
    ],
)  # fmt: skip
def test_sizes_are_read_as_they_are_written(text: str | int, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "4 apples", "-4GB", "0", "0GB", "4,5GB", "1e9", "nan", 0, -1, "4", 999_999]
)
def test_other_sizes_are_refused(text: str | int) -> None:
    with pytest.raises(BadConfig, match=r"allowed: bytes with a unit, above 0\. Try 4GB"):
        bytes_of(text)


@pytest.mark.parametrize("size", [1, 999_999, 10**6, 712_345_678, 999_999_999, 10**9, 3_400_000_001])
def test_a_size_that_is_told_is_enough(size: int) -> None:
    assert size <= bytes_of(text_of(size)) <= 1.11 * size + 10**6


def test_a_container_has_what_its_control_group_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    system = {
        "/proc/meminfo": ["MemTotal: 16000000 kB", "MemAvailable: 8000000 kB"],
        "/proc/self/cgroup": ["5:memory:/docker/7", "0::/me"],
        "/sys/fs/cgroup/me/memory.max": ["max"],
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": ["9223372036854771712"],
    }
    monkeypatch.setattr(memory, "_lines", lambda path: system.get(str(path), []))
    monkeypatch.setattr(os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 4_000_000)
    assert available_bytes() == 8_000_000 * 1024
    system["/sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes"] = ["3000000000"]
    assert available_bytes() == 3_000_000_000
    system["/sys/fs/cgroup/me/memory.max"] = ["2000000000"]
    assert available_bytes() == 2_000_000_000


# ---- what is needed


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_a_run_takes_what_its_arrays_take(digits: Any, dataflow: str) -> None:
    array, golden = replace(digits.array, dataflow=dataflow), digits.golden
    run, graph = digits.inference(0), digits.network.graph
    found = [operands(golden, run, layer).streamed(array) for layer in range(len(graph.layers))]
    own = {id(part.act): part.act.nbytes for part in found}
    if dataflow == "is":
        given = [operands(golden, run, layer).act.nbytes for layer in range(len(graph.layers))]
        own |= {id(part.wgt): part.wgt.nbytes for part in found} | {
            id(part.bias): part.bias.nbytes for part in found
        }
        own |= dict(enumerate(given))
    assert operand_bytes(graph, array) == sum(own.values())
    arrays = run.values.nbytes + run.accumulators.nbytes
    assert run_bytes(graph, array) == pytest.approx(arrays + sum(own.values()), abs=PADDING)


@pytest.mark.parametrize("sampler", [Importance(), Importance(lookahead=0), Gradient(), Uniform()])
def test_what_is_kept_of_an_image_is_what_was_foreseen(digits: Any, sampler: Sampler) -> None:
    made = campaign(digits, sampler)
    needed = footprint(made.network, made.space, made.samples, sampler)
    bench = Workbench(made.network, made.array, made.space, made.samples.inputs)
    bench.inference(0)
    runs = bench.kept.used
    assert needed.run == pytest.approx(runs, abs=PADDING + digits.inputs[0].nbytes)
    if isinstance(sampler, Importance):
        bench.predictor(0, sampler.lookahead)
    if isinstance(sampler, Gradient):
        bench.slopes(0)
    assert needed.jacobians == bench.kept.used - runs


# ---- sharing it out

NEEDS = Footprint(idle=300, work=500, run=40, jacobians=60, images=1000)


@pytest.mark.parametrize("workers", [1, 2, 7, None])
@pytest.mark.parametrize("spare", [0, 1, 250, 10**6])
def test_no_more_is_shared_out_than_there_is(workers: int | None, spare: int) -> None:
    need = {1: 900, None: 900, 2: 300 + 1800, 7: 300 + 6300}[workers]
    plan = share_out(NEEDS, need + spare, workers)
    assert plan.need == need
    assert need + plan.golden <= plan.limit == need + spare
    assert plan.golden > spare - (workers or 1)
    assert plan.pool == (0 if workers in (1, None) else spare // 2)
    with pytest.raises(BadConfig, match="allowed: from"):
        share_out(NEEDS, need - 1, workers)


def test_as_many_workers_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert share_out(NEEDS, 10**6, "auto").workers == 8
    assert share_out(NEEDS, 300 + 5 * 900, "auto").workers == 5
    assert share_out(NEEDS, 300 + 5 * 900 - 1, "auto").workers == 4
    assert share_out(NEEDS, 900, "auto").workers == 1


def test_half_of_what_is_free_by_default_or_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 4000)
    assert share_out(NEEDS, None, 1).limit == 2000
    assert share_out(NEEDS, None, 2).limit == 2100
    monkeypatch.setattr(memory, "available_bytes", lambda: 899)
    with pytest.raises(BadConfig, match="allowed: from"):
        share_out(NEEDS, None, 1)
    assert share_out(NEEDS, 900, 1).limit == 900  # who says so may have more than is free
    assert share_out(NEEDS, None, None).limit == 4 * 10**9


def test_too_little_is_refused_with_what_is_needed(digits: Any, tmp_path: Path) -> None:
    made = campaign(digits, Importance(), memory="100MB")
    with pytest.raises(
        BadConfig, match=r"memory: 100 MB for this process; allowed: from (\d+) MB \(.*\)"
    ) as one:
        made.collect(tmp_path / "run", workers=1)
    assert not (tmp_path / "run").exists()
    advised = str(one.value).split("Give --memory ")[1].split()[0]
    assert campaign(digits, Importance(), memory=advised).memory_plan(1).images >= 0
    with pytest.raises(BadConfig, match=r"for 2 workers and this process.*or --workers 1, which needs"):
        made.memory_plan(2)


# ---- what is found


@pytest.mark.parametrize("sampler", [Importance(), Uniform()])
@pytest.mark.parametrize("workers", [1, 2])
def test_results_do_not_depend_on_memory(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: Sampler, workers: int
) -> None:
    runs, passes = counted(monkeypatch, Golden, "run"), counted(monkeypatch, GradientSource, "jacobians")
    found = {}
    for name in ("least", "plenty"):
        least = campaign(digits, sampler).memory_plan(workers).need
        made = campaign(digits, sampler, memory=least if name == "least" else 1 << 40)
        assert made.memory_plan(workers).images == (0 if name == "least" else IMAGES)
        made.collect(tmp_path / name, workers=workers)
        found[name] = {
            path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()
        }
        if workers == 1:
            assert (len(runs) == IMAGES) == (name == "plenty")
            needs_gradients = isinstance(sampler, Importance)
            assert (len(passes) in (0, IMAGES)) == (name == "plenty" or not needs_gradients)
        runs.clear(), passes.clear()
    assert found["least"] == found["plenty"]


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[None]:
    """One entry for each call."""
    calls, before = [], getattr(owner, name)

    def after(*arguments: Any) -> Any:
        calls.append(None)
        return before(*arguments)

    monkeypatch.setattr(owner, name, after)
    return calls


def test_a_rerun_may_have_more_memory(digits: Any, tmp_path: Path) -> None:
    campaign(digits, Uniform(), memory="2GB").collect(tmp_path, workers=1)
    again = campaign(digits, Uniform(), memory="3GB", stop=max_trials(1600)).collect(tmp_path, workers=1)
    assert len(again.trials) == 1600


# ---- images


def test_images_that_are_left_out_are_not_held(digits: Any) -> None:
    every = np.zeros((50, *digits.inputs.shape[1:]), np.float32)
    assert not np.shares_memory(load_samples(every, digits.network.graph, 3).inputs[0], every)
    assert np.shares_memory(load_samples(every, digits.network.graph).inputs[0], every)


# ---- the commands


def test_the_plan_tells_the_memory(digits: Any) -> None:
    found = command(digits, "--dry-run", "--json", "--workers", "1", "--memory", "2GB")
    told = json.loads(found.stdout)["memory"]
    plan = campaign(digits, Importance(), memory="2GB", limit=None).memory_plan(1)
    assert told["limit"] == 2 * 10**9 and told["workers"] == 1
    assert told["image"] == plan.footprint.image and told["images_kept"] == len(digits.inputs)
    shown = command(digits, "--dry-run", "--workers", "1", "--memory", "2GB").stdout
    assert f"memory: 2.0 GB for this process: {text_of(told['needed'])} needed" in shown


def test_too_little_memory_is_an_error_of_usage(digits: Any, tmp_path: Path) -> None:
    found = command(digits, "--memory", "50MB", "--workers", "1", "-o", str(tmp_path / "run"))
    assert found.returncode == 2
    assert "error: memory: 50 MB for this process; allowed: from" in found.stderr
    assert not (tmp_path / "run").exists()


def command(digits: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "emulator", "run", str(digits.path), "--inputs", str(digits.data)]
    return subprocess.run([*run, *arguments], cwd=ROOT, text=True, capture_output=True)


@pytest.mark.slow
def test_what_several_processes_take_is_more_than_one_takes(digits: Any) -> None:
    """Two workers and their parent, each with libraries and kernels; PSS against the system's word for one."""
    tool = [sys.executable, str(ROOT / "tools/benchmarks/memory.py"), "--model", str(digits.path), "--json"]
    settings = ["--images", "4", "--trials", "2000", "--samplers", "uniform", "--memory", "3GB"]
    peaks = []
    for workers in ("1", "2"):
        found = subprocess.run([*tool, *settings, "--workers", workers], text=True, capture_output=True)
        assert found.returncode == 0, found.stderr
        peaks.append(json.loads(found.stdout)["campaigns"][0]["peak_bytes"])
    assert 1.2 * peaks[0] < peaks[1] < 3 * peaks[0]


@pytest.mark.slow
def test_a_campaign_of_a_large_network_keeps_to_its_limit() -> None:
    """MobileNetV2 at 224 x 224, 1,000 classes. The same trials with a limit that keeps no image and with none that
    matters; the peak is the system's word (ru_maxrss)."""
    tool = [sys.executable, str(ROOT / "tools/benchmarks/memory.py"), "--network", "mobilenet_v2", "--json"]
    settings = ["--images", "4", "--trials", "60", "--samplers", "importance", "--memory", "2GB,1TB"]
    found = subprocess.run([*tool, *settings], text=True, capture_output=True)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    tight, wide = report["campaigns"]
    assert report["same_results"]
    assert tight["images_kept"] < 4 == wide["images_kept"]
    assert tight["peak_bytes"] < 2 * 10**9
    assert wide["peak_bytes"] > tight["peak_bytes"] + wide["image_bytes"]
