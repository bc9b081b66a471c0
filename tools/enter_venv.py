"""For tools that are Python programs: they run in .venv, which tools/install makes where it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"


def enter_venv(*extra: str) -> None:
    """Start again with the Python of .venv, unless it is the one that runs. extra: of setup.cfg, as tools/install takes
    it."""
    if Path(sys.prefix) == VENV:
        return
    subprocess.run([ROOT / "tools/install", *extra], check=True)
    python = str(VENV / "bin/python")
    os.execv(python, [python, *sys.argv])
