"""Workers that end while they send: the pool ends with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.campaign.executors import GUARD

SCRIPT = """
import itertools, os, signal, sys
from contextlib import closing
from multiprocessing.connection import Connection
from emulator.campaign.executors import run_chunks
from emulator.campaign.processes import Processes
from emulator.errors import EmulatorError
from emulator.sampling.past import no_past

class Talker:
    def open(self, shared):
        return talk

def talk(chunk, past):
    if chunk == 5 and sys.argv[1] == "killed":
        Connection._send = die_in_the_middle
    return bytes(3 << 20)  # many times what a pipe holds

def die_in_the_middle(connection, data):
    os.write(connection.fileno(), data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    chunks = run_chunks(Talker(), itertools.count(), Processes(2), lambda _: 0, lambda _: no_past())
    with closing(chunks):
        try:
            for chunk, _ in chunks:
                if chunk == 4 and sys.argv[1] == "closed":
                    break
        except EmulatorError as error:
            assert sys.argv[1] == "killed" and "a worker process died" in str(error)
    print("ended")
"""


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_pool_ends_whatever_its_workers_were_sending(tmp_path: Path, how: str) -> None:
    script = tmp_path / "talk.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, how], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


UNGUARDED = """
import emulator as emu

net, array = emu.load("MODEL"), emu.ArraySpec.preset("gemmini-16")
space = emu.FaultSpace(net, array, registers=["accumulator"])
campaign = emu.Campaign(net, array, space, inputs="DATA", limit=2, stop=emu.max_trials(500))
campaign.collect("run", workers=2)
"""


def test_a_script_without_the_guard_is_told_of_it_and_of_nothing_else(tmp_path: Path, digits: Any) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED.replace("MODEL", str(digits.path)).replace("DATA", str(digits.data)))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"error: {GUARD}" in done.stderr.splitlines()
    assert "another run" not in done.stderr
    assert done.stderr.count("Traceback") == 1  # that of the script itself
