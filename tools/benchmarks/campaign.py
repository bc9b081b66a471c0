"""Whole campaigns: exhaustive against sampled, two processes against one, and where the time of a long one goes.

exhaustive: all flips of the live words of a register on some images, by classes, against faults drawn from 100 images,
taking turns; flips of one word in later cycles, which have the same effect, are not
counted again. scaling: the same campaign on one and on two processes, from the first chunk to the last. profile: one
campaign of --trials trials in this process, its time by parts, each without those it calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from emulator.array.spec import ArraySpec
from emulator.bundled import fashion_mnist
from emulator.campaign import chunk_task, runner, trial
from emulator.campaign.inputs import Samples, load_samples
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign, Progress
from emulator.campaign.trials import StoredTrials
from emulator.faults.salvo import Salvo
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden
from emulator.graph.load import Network, load
from emulator.propagate.propagator import Propagator
from emulator.report.html import write_report
from emulator.sampling.counted import count_chunks
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.importance import Importance
from emulator.sampling.past import no_past
from emulator.sampling.sampler import Sampler
from emulator.sampling.stopping import max_trials
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.gradients import GradientSource
from emulator.sensitivity.outlook import Predictor

sys.path.insert(0, str(Path(__file__).parent))
from engines import machine

ROUNDS = 5
SAMPLED = 20_000
"""Faults drawn in a round."""


def main() -> None:
    """Print a line a figure, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="by default the bundled CNN with its images")
    parser.add_argument("--inputs", help="an .npz as `emulator run` takes it")
    parser.add_argument("--images", type=int, default=2, help="of the exhaustive part (default: %(default)s)")
    parser.add_argument("--registers", default="accumulator,pe_b")
    parser.add_argument(
        "--trials", type=int, default=100_000, help="of scaling and profile (default: %(default)s)"
    )
    parser.add_argument("--parts", default="exhaustive,scaling,profile")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    bundle = fashion_mnist()
    model, inputs = (wanted.model, wanted.inputs) if wanted.model else (bundle.model, bundle.inputs)
    network, report = load(model), {"machine": machine(), "model": Path(model).stem}
    registers, parts = wanted.registers.split(","), wanted.parts.split(",")
    samples = load_samples(inputs, network.graph, 100)
    if "exhaustive" in parts:
        report["exhaustive"] = [
            exhaustive(network, samples, register, wanted.images) for register in registers
        ]
    if "scaling" in parts:
        report["scaling"] = scaling(network, samples, registers, wanted.trials)
    if "profile" in parts:
        report["profile"] = profile(network, samples, registers, wanted.trials)
    print(json.dumps(report, indent=2) if wanted.json else lines(report))


def array() -> ArraySpec:
    return ArraySpec.preset("gemmini-16")


# ---- every site against some


def exhaustive(network: Network, samples: Samples, register: str, images: int) -> dict[str, Any]:
    """Flips a second of both, medians of ROUNDS; the first round compiles."""
    space = FaultSpace(network, array(), registers=[register])
    bench, every, some = Workbench(network, array(), space, samples.inputs), Exhaustive(), Uniform()
    flips, chunks = images * flips_of(space), count_chunks(space, images)
    seconds: list[tuple[float, float]] = []
    rows = 0
    for turn in range(ROUNDS + 1):
        start = time.perf_counter()
        found = [trial.count_chunk(bench, every, seed=0, chunk=chunk, first=0) for chunk in range(chunks)]
        middle = time.perf_counter()
        trial.run_chunk(bench, some, no_past(), seed=turn, chunk=0, first=0, count=SAMPLED)
        seconds.append((middle - start, time.perf_counter() - middle))
        rows = sum(len(columns["sdc1"]) for columns in found)
    whole, drawn = (median(part) for part in zip(*seconds[1:], strict=True))
    return {
        "register": register,
        "images": images,
        "flips": flips,
        "classes": rows,
        "flips_per_second": flips / whole,
        "sampled_per_second": SAMPLED / drawn,
        "ratio": (flips / whole) / (SAMPLED / drawn),
    }


def flips_of(space: FaultSpace) -> int:
    """Bits of the live words of one image."""
    total = 0
    for stratum in space.strata:
        words = stratum.register.lifetime.words(stratum.plan)
        fold = np.repeat(np.arange(len(words)), words)
        index = np.arange(len(fold)) - np.repeat(np.cumsum(words) - words, words)
        total += (
            int(stratum.register.lifetime.word(stratum.plan, fold, index)[0].bits.sum()) if len(fold) else 0
        )
    return total


# ---- processes


def scaling(network: Network, samples: Samples, registers: list[str], trials: int) -> dict[str, Any]:
    """Trials a second of uniform campaigns, once all workers are at work."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(3):
        for workers, found in rates.items():
            found.append(steady_rate(network, samples, registers, trials, workers, turn, Uniform()))
    one, two = (median(rates[workers]) for workers in (1, 2))
    return {"one": one, "two": two, "ratio": two / one}


def steady_rate(
    network: Network,
    samples: Samples,
    registers: list[str],
    trials: int,
    workers: Any,
    seed: int,
    sampler: Sampler,
) -> float:
    """From the chunk after the first quarter to the last."""
    space, times = FaultSpace(network, array(), registers=registers), []

    def progress(state: Progress) -> None:
        times.append((state.trials, time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(
            network, array(), space, inputs=samples, sampler=sampler, stop=max_trials(trials), seed=seed
        )
        campaign.collect(Path(folder) / "run", workers=workers, progress=progress)
    begun = next(i for i, (done, _) in enumerate(times) if done >= trials / 4)
    if begun == len(times) - 1:
        raise SystemExit(f"error: --trials {trials} is over with one chunk; take 10,000 or more")
    return (times[-1][0] - times[begun][0]) / (times[-1][1] - times[begun][1])


# ---- one long campaign

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("golden runs", Golden, "run"),
    ("gradients", GradientSource, "jacobians"),
    ("striking", Salvo, "strike"),
    ("scoring", Predictor, "outlook"),
    ("drawing and weighing", Importance, "draw"),
    ("propagation", Propagator, "run"),
    ("trial columns", trial, "judge_strikes"),
    ("trial columns", trial, "_identity"),
    ("store", chunk_task, "encoded_part"),
    ("store", runner, "write_part"),
    ("results", Results, "open"),
    ("results", StoredTrials, "column"),
)


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Seconds in each of PARTS, without those of the parts called from there."""
    inside: list[float] = []
    before = [(owner, name, owner.__dict__[name]) for _, owner, name in PARTS]
    for label, owner, name in PARTS:
        held = owner.__dict__[name]
        plain = held.__func__ if isinstance(held, classmethod) else held
        measured = _timing(plain, label, seconds, inside)
        setattr(owner, name, classmethod(measured) if isinstance(held, classmethod) else measured)
    try:
        yield
    finally:
        for owner, name, held in before:
            setattr(owner, name, held)


def _timing(
    function: Callable[..., Any], label: str, seconds: dict[str, float], inside: list[float]
) -> Callable[..., Any]:
    @wraps(function)
    def measured(*arguments: Any, **named: Any) -> Any:
        inside.append(0.0)
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent = time.perf_counter() - start
            seconds[label] = seconds.get(label, 0.0) + spent - inside.pop()
            if inside:
                inside[-1] += spent

    return measured


def profile(network: Network, samples: Samples, registers: list[str], trials: int) -> dict[str, Any]:
    """A whole importance campaign and its report, one process."""
    seconds: dict[str, float] = {}
    first: list[float] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, timed(seconds):
        space = FaultSpace(network, array(), registers=registers)
        campaign = Campaign(
            network, array(), space, inputs=samples, sampler=Importance(), stop=max_trials(trials)
        )
        results = campaign.collect(
            Path(folder) / "run",
            workers=1,
            progress=lambda state: first.append(time.perf_counter() - start) if not first else None,
        )
        before = time.perf_counter()
        write_report(results, Path(folder) / "report.html")
        seconds["report"] = time.perf_counter() - before
        whole = time.perf_counter() - start
        size = sum(part.stat().st_size for part in (Path(folder) / "run" / "trials").iterdir())
    seconds["other"] = whole - sum(seconds.values())
    return {
        "trials": trials,
        "seconds": whole,
        "trials_per_second": trials / whole,
        "first_result_seconds": first[0],
        "bytes_per_trial": size / trials,
        "sdc1": str(results.rate()),
        "parts": dict(sorted(seconds.items(), key=lambda part: -part[1])),
    }


def lines(report: dict[str, Any]) -> str:
    """For people."""
    text = [f"{report['model']}"]
    text += [
        f"exhaustive {row['register']:12} {row['flips']:,} flips of {row['images']} images in {row['classes']:,} "
        f"classes, {row['flips_per_second']:,.0f}/s: {row['ratio']:.1f} x {row['sampled_per_second']:,.0f} sampled/s"
        for row in report.get("exhaustive", ())
    ]
    if "scaling" in report:
        found = report["scaling"]
        text.append(
            f"one process {found['one']:,.0f} trials/s, two {found['two']:,.0f}: {found['ratio']:.2f} x"
        )
    if "profile" in report:
        found = report["profile"]
        text.append(
            f"{found['trials']:,} trials in {found['seconds']:.1f} s ({found['trials_per_second']:,.0f}/s, first "
            f"results after {found['first_result_seconds']:.1f} s, {found['bytes_per_trial']:.0f} bytes a trial): "
            f"{found['sdc1']}"
        )
        text += [
            f"  {label:22} {spent:8.1f} s {100 * spent / found['seconds']:5.1f} %"
            for label, spent in found["parts"].items()
        ]
    return "\n".join(text)


if __name__ == "__main__":
    main()
