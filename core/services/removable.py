"""What kind of medium a path lies on: files of a CD or a stick are gone when it is taken out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Medium = Literal["removable", "fixed", "network", "unknown"]

_MOUNTS = Path("/proc/self/mounts")
_BLOCK_DEVICES = Path("/sys/class/block")
_OPTICAL = frozenset({"iso9660", "udf"})
_NETWORK = frozenset(
    {"9p", "afs", "ceph", "cifs", "davfs", "fuse.davfs2", "fuse.gvfsd-fuse", "fuse.rclone", "fuse.sshfs"}
    | {"gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
)
_MEMORY = frozenset({"ramfs", "tmpfs"})
_OF_WINDOWS: dict[int, Medium] = {2: "removable", 3: "fixed", 4: "network", 5: "removable", 6: "fixed"}
"""Answers of GetDriveTypeW. Source: Microsoft, fileapi.h."""


def medium_of(path: Path) -> Medium:
    """Return what ``path`` lies on; ``"unknown"`` when the system doesn't tell.

    A CD and an image of one, a stick, a memory card and a disk in a USB case are removable. May wait for a network
    share: not for the GUI thread.
    """
    try:
        place = path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        return "unknown"
    if sys.platform == "win32":
        return _windows_medium(place)
    if sys.platform == "linux":
        return _linux_medium(place)
    return "unknown"


def _linux_medium(place: Path, mounts: Path = _MOUNTS, devices: Path = _BLOCK_DEVICES) -> Medium:
    """Look up the mount that holds ``place``, then the device that it comes from."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return "unknown"
    found = _mount_of(place, lines)
    if found is None:
        return "unknown"
    device, kind = found
    if kind in _OPTICAL:
        return "removable"
    if kind in _NETWORK:
        return "network"
    if kind in _MEMORY:
        return "fixed"
    if not device.startswith("/dev/"):
        return "unknown"
    return "removable" if _is_removable(devices, Path(device)) else "fixed"


def _mount_of(place: Path, lines: Iterable[str]) -> tuple[str, str] | None:
    """Return device and file system of the innermost mount above ``place``; the last of equal ones hides others."""
    best: tuple[int, str, str] | None = None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _plain(fields[1])
        if place.is_relative_to(point) and (best is None or len(point) >= best[0]):
            best = (len(point), _plain(fields[0]), fields[2])
    return None if best is None else (best[1], best[2])


def _plain(field: str) -> str:
    """Undo the octal escapes of blanks and backslashes. Source: fstab(5), getmntent(3)."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field


def _is_removable(devices: Path, device: Path) -> bool:
    """Whether the kernel calls the disk of a partition removable, or it hangs on USB.

    Sources: the Linux kernel's ABI documentation, ``/sys/block/<disk>/removable``; the path of a USB disk in sysfs.
    """
    try:
        entry = (devices / device.resolve().name).resolve()
        if any(part.startswith("usb") for part in entry.parts):
            return True
        disk = entry.parent if (entry / "partition").exists() else entry
        return (disk / "removable").read_text("ascii").strip() == "1"
    except (OSError, ValueError):
        return False


def _windows_medium(place: Path) -> Medium:
    if sys.platform != "win32":
        return "unknown"
    import ctypes

    root = os.path.splitdrive(place)[0] + "\\"
    return _OF_WINDOWS.get(int(ctypes.windll.kernel32.GetDriveTypeW(root)), "unknown")
