"""What a user installs is whole: models, templates, type information, the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, without network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("emulator", "models"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", *offline, "-w", str(target), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, f"needs setuptools 70.1 or newer in this environment\n{done.stderr}"
    (built,) = target.glob("*.whl")
    return built


def test_a_wheel_holds_what_the_demo_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("fashion_cnn_int8.onnx", "fashion_cnn_float.onnx", "test.npz", "LICENSE-fashion-mnist"):
        assert f"emulator/models/fashion_mnist/{name}" in names
    assert "emulator/models/digits/digits_cnn_int8.onnx" in names
    assert "emulator/py.typed" in names
    templates = {path.name for path in (ROOT / "emulator/report/templates").iterdir() if path.is_file()}
    assert {f"emulator/report/templates/{name}" for name in templates} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "emulator").rglob("*.py")}
    assert modules <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"emulator", "systolic_fault_emulator"}


def test_the_demo_finds_its_model_in_an_unpacked_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import emulator, emulator.bundled as b; print(emulator.__file__);"
        "print(all(p.is_file() for f in (b.fashion_mnist(), b.digits()) for p in (f.model, f.float_model, f.inputs)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(tmp_path / "emulator/__init__.py"), "True"], done.stderr
