"""A campaign that is hurt again and again, and what must hold after every run of it: nothing lost beyond the running
chunk, nothing counted twice, no torn file under a name that counts, one clear error, and a rerun that resumes."""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from forked_runs import Run, Trap, start
from small_disk import SmallDisk, may_mount

MODELS = Path(__file__).parents[2] / "models"
Files = dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """options: what identifies the campaign; ends: stop rules, the one that matters last, a shorter one before it."""

    name: str
    options: tuple[str, ...]
    ends: tuple[tuple[str, ...], ...]

    def arguments(self, directory: Path, end: Sequence[str], workers: int) -> list[str]:
        model, inputs = MODELS / "digits/digits_cnn_int8.onnx", MODELS / "digits/test.npz"
        settings = ["--inputs", str(inputs), *self.options, *end, "--workers", str(workers)]
        return ["run", str(model), *settings, "-o", str(directory)]


_SHORT, _LONG = ("--trials", "1250"), ("--trials", "2750")
_PLACE = ("--limit", "5", "--registers", "pe_b,accumulator")
SUBJECTS = (
    Subject(name="drawn", options=(*_PLACE, "--sampler", "uniform"), ends=(_SHORT, _LONG)),
    Subject(name="learning", options=(*_PLACE, "--learn"), ends=(_SHORT, _LONG)),
    Subject(name="stopping", options=(*_PLACE, "--sampler", "uniform"), ends=(("--until-ci", "0.025"),)),
    Subject(name="counted", options=("--limit", "2", *_PLACE[2:], "--sampler", "exhaustive"), ends=((),)),
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What undisturbed serial runs of a subject leave. ahead: parts that workers may have finished beyond the end."""

    subject: Subject
    ends: tuple[Files, ...] = field(repr=False)
    ahead: Files = field(repr=False)
    seconds: float

    @property
    def final(self) -> Files:
        return self.ends[-1]

    @cached_property
    def table(self) -> pd.DataFrame:
        return table(self.final)


def reference(subject: Subject, folder: Path) -> Reference:
    def files(number: int, end: tuple[str, ...]) -> Files:
        directory = folder / f"{subject.name}-{number}"
        run = start(subject.arguments(directory, end, workers=1), temporary=folder)
        code, said = run.wait()
        assert code == 0, said
        return stored(directory)

    looks = "--until-ci" in subject.ends[-1]
    ahead = files(len(subject.ends), ("--trials", "9000")) if looks else {}
    started = time.monotonic()
    ends = tuple(files(number, end) for number, end in enumerate(subject.ends))
    seconds = (time.monotonic() - started) / len(ends)
    return Reference(subject=subject, ends=ends, ahead=ahead, seconds=seconds)


def stored(directory: Path) -> Files:
    """The manifest and the parts: what counts."""
    found = [directory / "manifest.json", *sorted((directory / "trials").glob("part-??????.parquet"))]
    return {path.name: path.read_bytes() for path in found if path.exists()}


def rows(part: bytes) -> pd.DataFrame:
    return pq.ParquetFile(BytesIO(part)).read().to_pandas()


def table(files: Files) -> pd.DataFrame:
    """All trials, as any reader of Parquet sees them."""
    return pd.concat([rows(data) for name, data in sorted(files.items()) if name != "manifest.json"])


@dataclass(kw_only=True)
class Scene:
    """One campaign under torture. story: what has been done to it."""

    reference: Reference
    others: Sequence[Reference]
    folder: Path
    workers: int
    fresh: bool
    disk: SmallDisk | None
    rng: np.random.Generator
    story: list[str] = field(default_factory=list)
    whole: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)

    @property
    def directory(self) -> Path:
        return self.folder / "campaign"

    def start(self, trap: Trap = lambda: None, end: int = -1) -> Run:
        arguments = self.reference.subject.arguments(
            self.directory, self.reference.subject.ends[end], self.workers
        )
        return start(arguments, temporary=self.folder, fresh=self.fresh, trap=trap)

    def begin(self) -> None:
        """A shorter campaign, which is extended from now on."""
        code, said = self.start(end=0).wait()
        self.check(code, said, allowed={0})
        self.story.append("begun with a shorter one")

    def check(self, code: int, said: str, allowed: set[int]) -> None:
        """After any run."""
        self.story.append(f"exit {code}")
        assert code in allowed, f"exit {code}: {said[-1500:]}"
        assert "Traceback" not in said and "Error " not in said, said[-1500:]
        assert code <= 0 or said.count("error: ") == 1, said
        found = self.parts()
        for name, data in found.items():
            assert self._right(name, data), f"{name} is not what it should be"
        for name, state in self.whole.items():
            past_the_end = code == 0 and name not in self.reference.final
            assert past_the_end or self._state(name) == state, f"{name} was lost or written again"
        # The last part of a shorter campaign is to be replaced.
        self.whole = {name: self._state(name) for name, data in found.items() if not self._short(name, data)}

    def finish(self) -> None:
        """A rerun that nobody disturbs leaves what the undisturbed campaign left."""
        code, said = self.start().wait()
        self.check(code, said, allowed={0})
        found = stored(self.directory)
        assert found.keys() == self.reference.final.keys()
        for name in found.keys() - self.damaged:
            assert found[name] == self.reference.final[name], f"{name} differs"
        trials = table(found)
        assert trials["trial_id"].is_unique and trials.equals(self.reference.table)
        beside = (
            {path.name for path in self.directory.rglob("*") if path.is_file()} - found.keys() - {".lock"}
        )
        assert beside <= {f"{name}.corrupt" for name in self.damaged}, f"left behind: {sorted(beside)}"

    def parts(self) -> Files:
        return {name: data for name, data in stored(self.directory).items() if name != "manifest.json"}

    def path(self, name: str) -> Path:
        return self.directory / name if name == "manifest.json" else self.directory / "trials" / name

    def damage(self, name: str, data: bytes) -> None:
        self.path(name).write_bytes(data)
        self.damaged.add(name)
        self.whole.pop(name, None)

    def _state(self, name: str) -> tuple[int, int]:
        found = self.path(name).stat() if self.path(name).exists() else None
        return (found.st_ino, found.st_mtime_ns) if found else (0, 0)

    def _short(self, name: str, data: bytes) -> bool:
        return any(files.get(name) == data != self.reference.final.get(name) for files in self.reference.ends)

    def _right(self, name: str, data: bytes) -> bool:
        """Byte by byte; what was damaged where no trial is, in the footer, row by row."""
        known = [files[name] for files in (*self.reference.ends, self.reference.ahead) if name in files]
        return data in known or (name in self.damaged and any(rows(data).equals(rows(k)) for k in known))


Hurt = Callable[[Scene], None]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """wrong: what did not hold; empty if all did."""

    seed: int
    subject: str
    workers: int
    story: list[str]
    wrong: str
    seconds: float


def tortured(
    seeds: Sequence[int],
    hurts: Sequence[Hurt],
    references: Sequence[Reference],
    folder: Path,
    fresh: bool = False,
    lanes: int = 2,
) -> list[Verdict]:
    """A trial a seed, in `lanes` processes."""
    pipes = [
        _lane(seeds[lane::lanes], hurts, references, folder / f"lane-{lane}", fresh) for lane in range(lanes)
    ]
    return [Verdict(**json.loads(line)) for pipe in pipes for line in _lines(pipe)]


def _lane(
    seeds: Sequence[int], hurts: Sequence[Hurt], references: Sequence[Reference], folder: Path, fresh: bool
) -> int:
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading
    try:
        folder.mkdir()
        mounts = may_mount()
        with os.fdopen(writing, "w", buffering=1) as pipe:
            for seed in seeds:
                verdict = trial(seed, hurts, references, folder / str(seed), fresh, mounts)
                print(json.dumps(asdict(verdict)), file=pipe)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _lines(pipe: int) -> Iterator[str]:
    with os.fdopen(pipe) as lines:
        yield from lines
    os.wait()


def trial(
    seed: int,
    hurts: Sequence[Hurt],
    references: Sequence[Reference],
    folder: Path,
    fresh: bool,
    mounts: bool,
) -> Verdict:
    """One campaign, hurt once or twice."""
    rng = np.random.default_rng(seed)
    chosen = references[seed % len(references)]
    disk = SmallDisk(folder) if mounts and seed // (2 * len(references)) % 2 else None
    folder.mkdir(exist_ok=True)
    scene = Scene(
        reference=chosen,
        others=[other for other in references if other is not chosen],
        folder=folder,
        workers=1 + seed // len(references) % 2,
        fresh=fresh,
        disk=disk,
        rng=rng,
    )
    started, wrong = time.monotonic(), ""
    try:
        if len(chosen.ends) > 1 and rng.random() < 0.3:
            scene.begin()
        for _ in range(int(rng.integers(1, 3))):
            hurts[int(rng.integers(len(hurts)))](scene)
        scene.finish()
    except AssertionError as error:
        wrong = str(error) or "an assertion failed"
    seconds = time.monotonic() - started
    shutil.rmtree(folder, ignore_errors=disk is not None)
    if disk is not None:
        disk.unmount()
    return Verdict(
        seed=seed,
        subject=chosen.subject.name,
        workers=scene.workers,
        story=scene.story,
        wrong=wrong,
        seconds=seconds,
    )
