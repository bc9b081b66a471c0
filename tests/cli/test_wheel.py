"""What a user installs is whole: models, templates, type information, the command; from a wheel and from an sdist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = "1700000000"
"""2023-11-14: the time that builds are to write instead of their own (reproducible-builds.org)."""


def sources(folder: Path, mtime: float | None = None) -> Path:
    """A copy of what is packed; mtime: when all files were last changed."""
    for name in ("emulator", "models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    # setuptools would take tests at the top, without what they need.
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests/test_choices.py", folder / "tests")
    if mtime is not None:
        for path in folder.rglob("*"):
            os.utime(path, (mtime, mtime))
    return folder


def built(kind: str, source: Path, target: Path) -> Path:
    """A wheel or an sdist, by the build backend itself: without network."""
    target.mkdir(exist_ok=True)
    code = f"from setuptools.build_meta import build_{kind} as build; build({str(target)!r})"
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"needs setuptools 70.1 or newer in this environment\n{done.stderr}"
    (made,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", sources(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", sources(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel; what it needs comes from this one, so that no network is used."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    (Path(paths["purelib"]) / "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet", "--force-reinstall")
    python = Path(paths["scripts"]) / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel], check=True)
    return Path(paths["scripts"])


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


def test_a_wheel_made_of_the_sdist_is_the_same_to_the_byte(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "/tests" in name]
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert built("wheel", source, tmp_path / "made").read_bytes() == wheel.read_bytes()


def test_the_same_sources_give_the_same_wheel_wherever_and_whenever(wheel: Path, tmp_path: Path) -> None:
    source = sources(tmp_path / "elsewhere", mtime=1_600_000_000)
    again = built("wheel", source, tmp_path / "made")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_installed_command_finds_its_models(installed: Path, tmp_path: Path) -> None:
    code = (
        "import emulator, emulator.bundled as b; print(emulator.__file__);"
        "print(all(p.is_file() for f in (b.fashion_mnist(), b.digits()) for p in (f.model, f.float_model, f.inputs)))"
    )
    found = subprocess.run(
        [installed / "python", "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    file, there = found.stdout.split()
    assert Path(file).is_relative_to(installed.parent), found.stderr
    assert there == "True"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run(
        [installed / "emulator", "--version"], env=environment, capture_output=True, text=True
    )
    assert told.stdout.startswith("emulator 0.")


@pytest.mark.slow
def test_types_of_the_installed_package_are_used(installed: Path, tmp_path: Path) -> None:
    """What README shows, in the strict mode of mypy; and one mistake, to see that types are looked at."""
    (source,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )

    def complaints(text: str) -> str:
        (tmp_path / "script.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python"]
        command += ["--config-file", os.devnull, "--cache-dir", tmp_path / "cache", "script.py"]
        environment = {name: value for name, value in os.environ.items() if not name.endswith("PATH")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.stdout

    assert complaints(source) == "Success: no issues found in 1 source file\n"
    assert 'incompatible type "int"; expected "str"' in complaints(source.replace('"gemmini-16"', "16"))
