"""Watched folders and kinds of media."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.domain.errors import EnvironmentFault
from core.services import removable
from core.services.removable import medium_of
from core.services.watch_folders import FolderWatch


class Taken:
    """Notes what was handed over."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.refuse = False

    def __call__(self, files: Sequence[Path]) -> None:
        if self.refuse:
            raise EnvironmentFault("library.busy", "The library is busy.")
        self.files += [file.name for file in files]


def test_a_file_is_handed_over_once_it_stopped_growing(tmp_path: Path) -> None:
    taken = Taken()
    watch = FolderWatch([tmp_path], 60.0, taken)
    file = tmp_path / "deep" / "one"
    file.parent.mkdir()
    file.write_bytes(b"1")
    watch.look()
    file.write_bytes(b"12")
    watch.look()
    assert taken.files == []
    watch.look()
    watch.look()
    assert taken.files == ["one"]
    file.write_bytes(b"123")
    watch.look()
    watch.look()
    assert taken.files == ["one", "one"]


@pytest.mark.skipif(os.name == "nt", reason="needs FIFOs and links")
def test_unfinished_hidden_and_irregular_files_are_left_alone(tmp_path: Path) -> None:
    taken = Taken()
    for name in (".hidden", "one.part", "two.tmp", ".part-1-x-three", "four.crdownload", "five"):
        (tmp_path / name).write_bytes(b"1")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "five")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    watch = FolderWatch([tmp_path, tmp_path / "not there yet"], 60.0, taken)
    watch.look()
    watch.look()
    assert taken.files == ["five"]


def test_what_could_not_be_taken_is_offered_again(tmp_path: Path) -> None:
    taken = Taken()
    taken.refuse = True
    (tmp_path / "one").write_bytes(b"1")
    watch = FolderWatch([tmp_path], 60.0, taken)
    watch.look()
    with pytest.raises(EnvironmentFault):
        watch.look()
    taken.refuse = False
    watch.look()
    watch.look()
    assert taken.files == ["one"]


@pytest.mark.expects_logs
def test_the_thread_looks_until_it_is_closed_and_survives_a_refusal(tmp_path: Path) -> None:
    arrived = threading.Event()
    refusals = [True]

    def take(files: Sequence[Path]) -> None:
        if refusals.pop() if refusals else False:
            raise EnvironmentFault("library.busy", "The library is busy.")
        arrived.set()

    (tmp_path / "one").write_bytes(b"1")
    watch = FolderWatch([tmp_path], 0.01, take)
    watch.start()
    assert arrived.wait(10.0)
    watch.close()
    assert not [t for t in threading.enumerate() if t.name == "folder-watch"]


MOUNTS = """/dev/sda1 / ext4 rw 0 0
/dev/sda1 /home ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/sdb1 /media/some\\040stick vfat rw 0 0
/dev/sdc1 /media/card exfat rw 0 0
/dev/sr0 /media/cd iso9660 ro 0 0
server:/archive /mnt/archive nfs4 rw 0 0
overlay /overlay overlay rw 0 0
"""


@pytest.mark.skipif(os.name == "nt", reason="as Linux tells")
@pytest.mark.parametrize(
    ("place", "medium"),
    [
        ("/home/reader", "fixed"),
        ("/tmp/x", "fixed"),
        ("/media/some stick/DICOM", "removable"),
        ("/media/card", "removable"),
        ("/media/cd/DICOMDIR", "removable"),
        ("/mnt/archive/a", "network"),
        ("/overlay/a", "unknown"),
    ],
)
def test_the_mount_and_its_device_tell_the_medium(tmp_path: Path, place: str, medium: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    devices = tmp_path / "class"
    devices.mkdir()
    for name, removable_flag, bus in (("sda", "0", "ata1"), ("sdb", "0", "usb2"), ("sdc", "1", "mmc0")):
        disk = tmp_path / "devices" / bus / name
        (disk / f"{name}1").mkdir(parents=True)
        (disk / "removable").write_text(f"{removable_flag}\n")
        (disk / f"{name}1" / "partition").write_text("1\n")
        (devices / f"{name}1").symlink_to(disk / f"{name}1")
    assert removable._linux_medium(Path(place), mounts, devices) == medium


def test_this_folder_is_on_no_medium_that_goes_away(tmp_path: Path) -> None:
    assert medium_of(tmp_path) in ("fixed", "network", "unknown")
    assert medium_of(tmp_path / "not there") in ("fixed", "network", "unknown")


@pytest.mark.skipif(os.name == "nt", reason="as Linux tells")
def test_without_a_table_of_mounts_nothing_is_known(tmp_path: Path) -> None:
    assert removable._linux_medium(tmp_path, tmp_path / "none", tmp_path) == "unknown"
