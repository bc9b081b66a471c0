"""Same seed, same versions, same bytes: of every part, of the manifest, and of the report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[2] / "models/digits"


def campaign(folder: Path, hash_seed: str, workers: int, *options: str) -> dict[str, bytes]:
    """The files of a campaign of two chunks and its report, run in `folder` by processes of their own."""
    folder.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    run = ["run", str(MODELS / "digits_cnn_int8.onnx"), "--inputs", str(MODELS / "test.npz"), "--limit", "10"]
    run += ["--trials", "700", "--workers", str(workers), "-o", "a", *options]
    for arguments in (run, ["report", "a"]):
        command = [sys.executable, "-m", "emulator", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    files = (path for path in (folder / "a").rglob("*") if path.suffix in {".parquet", ".json", ".html"})
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return campaign(tmp_path_factory.mktemp("first") / "place", "1", 1)


def test_a_second_run_elsewhere_with_other_workers_writes_the_same_bytes(
    first: dict[str, bytes], tmp_path: Path
) -> None:
    second = campaign(tmp_path / "another place", "2", 2)
    assert sorted(first) == [
        "a/manifest.json",
        "a/report.html",
        "a/trials/part-000000.parquet",
        "a/trials/part-000001.parquet",
    ]
    assert sorted(second) == sorted(first)
    assert [name for name in first if first[name] != second[name]] == []


def test_another_seed_writes_others(first: dict[str, bytes], tmp_path: Path) -> None:
    other = campaign(tmp_path / "place", "1", 1, "--seed", "1")
    assert [name for name in first if first[name] == other[name]] == []
