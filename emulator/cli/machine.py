"""What the emulator runs on: info."""

from __future__ import annotations

import typer

from emulator.cli import options
from emulator.cli.terminal import command, show, show_json, table


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(info)


@command
def info(json: options.Json = False) -> None:
    """Versions, and the instructions that kernels use.

    EMULATOR_SIMD=vnni, avx2 or plain takes others; results are the same.

    Example: emulator info --json
    """
    import os
    import platform
    from importlib.metadata import version

    from emulator import __version__
    from emulator.instructions import CHOSEN, available

    facts = {
        "emulator": __version__,
        "instructions": CHOSEN.name,
        "why": CHOSEN.reason,
        "available": list(available()),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numba", "numpy", "onnx", "onnxruntime")},
    }
    if json:
        show_json(facts)
        return
    rows = [
        [name, ", ".join(value) if isinstance(value, list) else str(value)] for name, value in facts.items()
    ]
    show(table(["", ""], rows))
