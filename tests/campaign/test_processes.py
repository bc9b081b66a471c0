"""Workers that end while they send: the pool ends with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
