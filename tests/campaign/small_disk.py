"""A disk that is soon full: a tmpfs of a few kilobytes, which gives a true ENOSPC to mkdir, open and write.

It lives in a user and mount namespace of this process and its children, so that no root is needed and nothing is left
behind. Where the kernel refuses namespaces, as it does in some containers, the limit on the length of files takes its
place (`file_limit` in hurts.py), which any user may set and which is part of every torture anyway: nothing is skipped.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NEW_NAMESPACES = 0x00020000 | 0x10000000  # CLONE_NEWNS | CLONE_NEWUSER
_REMOUNT = 32
ROOMY_BYTES = 16 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def may_mount() -> bool:
    """Puts this process, which must have one thread, into namespaces of its own; False where that is refused."""
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_NEW_NAMESPACES):
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError:
        return False
    return True


class SmallDisk:
    """A tmpfs over an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount(0, f"size={ROOMY_BYTES}")

    def leave(self, free_bytes: int) -> None:
        """So much is free from now on, in whole pages."""
        found = os.statvfs(self.folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self._mount(_REMOUNT, f"size={used + free_bytes}")

    def free(self) -> None:
        """Somebody has made room."""
        self._mount(_REMOUNT, f"size={ROOMY_BYTES}")

    def unmount(self) -> None:
        if _libc.umount2(str(self.folder).encode(), 0):
            raise OSError(ctypes.get_errno(), f"umount {self.folder}")
        self.folder.rmdir()

    def _mount(self, flags: int, options: str) -> None:
        if _libc.mount(b"tmpfs", str(self.folder).encode(), b"tmpfs", flags, options.encode()):
            raise OSError(ctypes.get_errno(), f"mount {self.folder} {options}")
