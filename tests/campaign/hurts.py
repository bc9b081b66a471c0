"""Ways to hurt a campaign: signals, a full disk, a rival that writes as well, damage between two runs."""

from __future__ import annotations

import fcntl
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from forked_runs import at_length, in_place_of
from torture import Scene

# Of a fresh interpreter, until the campaign begins.
FRESH_SECONDS = 4.0
# A run does about so many operations on its directory.
OPERATIONS = 60
PART_BYTES = 30_000

LOST_A_WORKER, BAD_CONFIG, BAD_DATA = 1, 2, 4


def killed_at_an_operation(scene: Scene) -> None:
    """Before each file operation there is, sooner or later; fresh interpreters know the moment by the clock only."""
    if scene.fresh:
        killed_at_a_moment(scene)
        return
    number, at = _signal(scene), int(scene.rng.integers(OPERATIONS))
    scene.story.append(f"{number.name} before operation {at}")
    code, said = scene.start(in_place_of(at, scene.directory, number)).wait()
    scene.check(code, said, allowed={0, -number})


def killed_at_a_moment(scene: Scene) -> None:
    number = _signal(scene)
    run = scene.start()
    scene.story.append(f"{number.name} after {_pause(scene):.3f} s")
    run.strike(run.pid, number)
    code, said = run.wait()
    scene.check(code, said, allowed={0, -number})


def worker_killed(scene: Scene) -> None:
    """The campaign ends with one error, and keeps what is done; it may have been too late."""
    if scene.workers == 1:
        killed_at_a_moment(scene)
        return
    number = _signal(scene)
    run = scene.start()
    workers = run.workers()
    scene.story.append(
        f"{number.name} for one of {len(workers)} workers, {_pause(scene, 0.5):.3f} s after they began"
    )
    if workers:
        run.strike(int(scene.rng.choice(workers)), number)
    code, said = run.wait()
    scene.check(code, said, allowed={0, LOST_A_WORKER})


def killed_in_a_write(scene: Scene) -> None:
    """By the kernel, when a file has got so long: what was written of it stays."""
    if scene.fresh:
        killed_at_a_moment(scene)
        return
    size = int(scene.rng.integers(PART_BYTES))
    scene.story.append(f"killed at byte {size} of a file")
    code, said = scene.start(at_length(size, deadly=True)).wait()
    scene.check(code, said, allowed={0, LOST_A_WORKER, -signal.SIGXFSZ})


def file_limit(scene: Scene) -> None:
    """From the start, or from some moment on, the kernel refuses to write more into any file, in the middle of it."""
    size = int(scene.rng.integers(PART_BYTES))
    if scene.rng.random() < 0.5:
        scene.story.append(f"files of {size} bytes at most")
        run = scene.start(at_length(size, deadly=False))
    else:
        run = scene.start()
        scene.story.append(f"files of {size} bytes at most after {_pause(scene):.3f} s")
        with suppress(ProcessLookupError):
            resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (size, size))
    code, said = run.wait()
    scene.check(code, said, allowed={0, BAD_CONFIG})
    _nothing_half_written(scene, code)


def full_disk(scene: Scene) -> None:
    """ENOSPC, after so many bytes more; then somebody makes room."""
    if scene.disk is None:
        file_limit(scene)
        return
    room = int(scene.rng.integers(1, 6 * PART_BYTES))
    scene.story.append(f"{room} bytes free")
    scene.disk.leave(room)
    code, said = scene.start().wait()
    scene.disk.free()
    scene.check(code, said, allowed={0, BAD_CONFIG})
    assert code == 0 or "No space left" in said, said
    _nothing_half_written(scene, code)


def rival(scene: Scene) -> None:
    """Another run while one is held: refused if that one is writing, else it does the work."""
    run = scene.start()
    scene.story.append(f"a rival after {_pause(scene):.3f} s")
    run.strike(run.pid, signal.SIGSTOP)
    expected = BAD_CONFIG if _is_locked(scene) else 0
    code, said = scene.start().wait()
    run.strike(run.pid, signal.SIGCONT)
    last, last_said = run.wait()
    scene.story.append(f"exits {code}, {last}")
    assert code == expected and (code == 0 or "another run is writing here" in said), (expected, said)
    scene.check(last, last_said, allowed={0})


def part_damaged(scene: Scene) -> None:
    """One part, or two; the next run sets them aside and does them again."""
    names = _stored(scene)
    for name in scene.rng.choice(names, min(len(names), int(scene.rng.integers(1, 3))), replace=False):
        damage = DAMAGES[int(scene.rng.integers(len(DAMAGES)))]
        scene.damage(str(name), damage(scene, scene.path(str(name)).read_bytes()))
        scene.story.append(f"{name} {damage.__name__}")


def part_removed(scene: Scene) -> None:
    name = str(scene.rng.choice(_stored(scene)))
    scene.path(name).unlink()
    scene.whole.pop(name, None)
    scene.story.append(f"{name} removed")


def manifest_damaged(scene: Scene) -> None:
    """It resumes, or is refused with one error, and then not a byte of the trials is touched; the manifest that the
    same command writes elsewhere mends it, as the error says."""
    _stored(scene)
    path = scene.path("manifest.json")
    good = path.read_bytes()
    damage = (truncated, flipped, emptied, zeroed)[int(scene.rng.integers(4))]
    path.write_bytes(damage(scene, good))
    scene.story.append(f"manifest {damage.__name__}")
    before = {name: scene.path(name).stat().st_mtime_ns for name in scene.parts()}
    code, said = scene.start().wait()
    if code:
        assert before == {name: scene.path(name).stat().st_mtime_ns for name in scene.parts()}
        assert "manifest.json" in said or "another campaign" in said, said
        path.write_bytes(good)
    scene.check(code, said, allowed={0, BAD_CONFIG, BAD_DATA})


def leftovers(scene: Scene) -> None:
    """Halves of what was being written when the power went."""
    _stored(scene)
    for name in (".manifest.json.17.tmp", "trials/.part-000001.parquet.17.tmp"):
        (scene.directory / name).write_bytes(scene.rng.bytes(int(scene.rng.integers(2000))))
    scene.story.append("temporary files")


def truncated(scene: Scene, data: bytes) -> bytes:
    return data[: int(scene.rng.integers(len(data)))] if data else data


def flipped(scene: Scene, data: bytes) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[int(scene.rng.integers(len(data)))] ^= 1 << int(scene.rng.integers(8))
    return bytes(changed)


def emptied(scene: Scene, data: bytes) -> bytes:
    return b""


def zeroed(scene: Scene, data: bytes) -> bytes:
    """From somewhere on, as file systems leave it after a loss of power."""
    start = int(scene.rng.integers(len(data) + 1))
    return data[:start] + bytes(len(data) - start)


def noise(scene: Scene, data: bytes) -> bytes:
    return scene.rng.bytes(len(data))


def of_another_chunk(scene: Scene, data: bytes) -> bytes:
    others = [part for part in scene.parts().values() if part != data]
    return others[int(scene.rng.integers(len(others)))] if others else b""


def of_another_campaign(scene: Scene, data: bytes) -> bytes:
    other = scene.others[int(scene.rng.integers(len(scene.others)))]
    return other.final["part-000000.parquet"]


DAMAGES: tuple[Callable[[Scene, bytes], bytes], ...] = (
    truncated,
    flipped,
    emptied,
    zeroed,
    noise,
    of_another_chunk,
    of_another_campaign,
)

HURTS = (
    killed_at_an_operation,
    killed_in_a_write,
    killed_at_a_moment,
    worker_killed,
    worker_killed,
    full_disk,
    full_disk,
    file_limit,
    rival,
    part_damaged,
    part_damaged,
    part_removed,
    manifest_damaged,
    leftovers,
)


def _signal(scene: Scene) -> signal.Signals:
    return signal.SIGKILL if scene.rng.random() < 0.6 else signal.SIGTERM


def _stored(scene: Scene) -> list[str]:
    """The parts there are, of a finished campaign if nothing was left yet."""
    if not scene.parts():
        code, said = scene.start().wait()
        scene.check(code, said, allowed={0})
    return sorted(scene.parts())


def _is_locked(scene: Scene) -> bool:
    path = scene.directory / ".lock"
    if not path.exists():
        return False
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _pause(scene: Scene, share: float = 1.0) -> float:
    """Of a random length, within about the time of a run."""
    longest = scene.reference.seconds * 1.5 + (FRESH_SECONDS if scene.fresh else 0)
    seconds = share * float(scene.rng.uniform(0, longest))
    time.sleep(seconds)
    return seconds


def _nothing_half_written(scene: Scene, code: int) -> None:
    found = [path.name for path in scene.directory.rglob("*.tmp")] if code else []
    assert not found, found
