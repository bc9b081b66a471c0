from __future__ import annotations

from pathlib import Path

import pytest
from stored import MANIFEST, trials, write

from emulator.campaign.manifest import write_manifest


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / "a"
    write_manifest(directory, MANIFEST)
    for chunk in (2, 0, 1):
        write(directory, chunk, trials(chunk))
    return directory
