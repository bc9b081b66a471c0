"""The rooms and the direction of imports between them, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "emulator"
FLOOR = {"choices", "compiling", "gemm", "jit", "errors", "bundled", "instructions", "notebook", "simd"}
ROOMS = (
    "graph", "array", "faults", "propagate", "sensitivity", "sampling", "campaign", "report", "harden", "cli",
)  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))

# Which rooms may import a library; numba stays below everything that uses kernels.
HOMES = {
    "onnx": {"graph", "sensitivity", "harden"},
    "onnx_ir": {"graph", "sensitivity"},
    "numba": {"compiling", "jit", "instructions", "notebook", "simd"},
    "llvmlite": {"instructions", "notebook", "simd"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "vcd": {"report"},
    "pyarrow": {"campaign"},
    "typer": {"cli"},
    "distributed": {"campaign"},
}


def imported_by(source: str, package: str = "emulator") -> set[str]:
    """Absolute dotted names of every import, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(part for part in ("emulator" if node.level else "", node.module or "") if part)
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= names if module == package else {module}
    return found


def room_of(file: Path) -> str:
    """The first folder below the package, or the module itself."""
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def rooms_in(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("emulator.")}


def downhill(room: str, imported: str) -> bool:
    """May `room` import `imported`? A room sees the floor and the rooms before it; graph and array not each other."""
    if imported == room or imported in FLOOR:
        return True
    if room in FLOOR or imported not in ROOMS:
        return False
    if {room, imported} == {"graph", "array"}:
        return False
    return ROOMS.index(imported) < ROOMS.index(room)


def id_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def test_every_folder_is_a_known_room() -> None:
    folders = {file.relative_to(PACKAGE).parts[0] for file in FILES if file.parent != PACKAGE}
    assert folders <= set(ROOMS) | {"simd"}
    assert {"graph", "array", "faults", "propagate", "sensitivity", "sampling", "campaign", "cli"} <= folders
    assert {file.stem for file in FILES if file.parent == PACKAGE} <= FLOOR | {"__init__", "__main__"}


@pytest.mark.parametrize("file", [f for f in FILES if f.parent != PACKAGE or f.stem in FLOOR], ids=id_of)
def test_imports_point_one_way(file: Path) -> None:
    room = room_of(file)
    # The version is all that a room may take from the package itself.
    wrong = {
        other
        for other in rooms_in(imported_by(file.read_text()))
        if not downhill(room, other) and other != "__version__"
    }
    assert not wrong, f"{id_of(file)} imports {wrong}"


@pytest.mark.parametrize("file", FILES, ids=id_of)
def test_libraries_stay_in_their_rooms(file: Path) -> None:
    libraries = {name.split(".")[0] for name in imported_by(file.read_text())}
    wrong = {library for library in libraries & HOMES.keys() if room_of(file) not in HOMES[library]}
    assert not wrong, f"{id_of(file)} imports {wrong}"


def test_the_rule_itself_tells_right_from_wrong() -> None:
    source = (
        "from __future__ import annotations\nimport numba\n"
        "def f():\n    from emulator.campaign.parts import read_part\n    from emulator import sampling\n"
    )
    assert rooms_in(imported_by(source)) == {"campaign", "sampling"}
    assert "numba" in imported_by(source)
    assert downhill("cli", "graph")
    assert downhill("faults", "array")
    assert not downhill("graph", "array")
    assert not downhill("array", "graph")
    assert not downhill("sampling", "campaign")
    assert not downhill("gemm", "graph")
