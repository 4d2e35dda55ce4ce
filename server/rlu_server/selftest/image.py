"""A disk of the test's own: an ext4 image, mounted through a loop device, that holds everything the deployment may write to a disk.

It is searched as raw bytes afterwards: what was deleted, overwritten in part, or is in the slack of a block is there too. Mounting needs
root and a loop device; without them a directory takes its place, and what was deleted from it is not searched.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MIB = 1 << 20


class ImageError(Exception):
    """The image cannot be made or mounted; the message says why."""


class Image:
    """An image file and where it is mounted."""

    def __init__(self, file: Path, mount: Path, size: int) -> None:
        self.file = file
        self.mount = mount
        self._size = size
        self.mounted = False

    def make(self) -> None:
        """Make and mount it.

        Raises:
            ImageError: not root, no tools, no loop device.
        """
        if os.geteuid() != 0:
            raise ImageError("mounting a disk of its own needs root")
        with self.file.open("wb") as out:
            out.truncate(self._size)
        # A journal of data too: what is written to a file passes it, as a second place to leak to.
        self._run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.file))
        self.mount.mkdir(mode=0o711)
        self._run("mount", "-o", "loop,nodiscard,data=journal", str(self.file), str(self.mount))
        self.mounted = True
        (self.mount / "lost+found").rmdir()
        self.mount.chmod(0o711)

    def unmount(self) -> None:
        """Everything is in the file afterwards.

        Raises:
            ImageError: something still uses it.
        """
        if self.mounted:
            self._run("umount", str(self.mount))
            self.mounted = False

    def abandon(self) -> None:
        """Unmount it whoever uses it."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.mount)], capture_output=True, check=False)
            self.mounted = False

    @staticmethod
    def _run(*command: str) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ImageError(f"{command[0]}: {type(error).__name__}") from error
        if done.returncode != 0:
            raise ImageError(f"{command[0]}: {' '.join(done.stderr.split())[:200]}")
