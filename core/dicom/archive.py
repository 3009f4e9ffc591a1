"""ZIP archives, taken apart under our own names and under caps."""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from core.config.sealed_file import SourceChangedError, is_mounted, open_plain, plain_size, seal_stream
from core.dicom.faults import malformed
from core.domain.study import SkippedFile

MAX_MEMBERS = 100_000
MAX_TOTAL_BYTES = 50 << 30
MAX_RATIO = 200
RATIO_FREE_BYTES = 1 << 20
_CHUNK = 1 << 20
_AES = 99
"""Compression method of WinZip's AES. Source: WinZip, "AES Encryption Information", AE-1 and AE-2."""
_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def is_zip(path: Path) -> bool:
    """Whether the file begins like a ZIP archive; OSError when it cannot be read."""
    with open_plain(path) as stream:
        return stream.read(4) in _MAGIC


def extract(
    archive: Path, work_dir: Path, skipped: list[SkippedFile], *, password: str | None = None
) -> Iterator[tuple[Path, str]]:
    """Yield (extracted file, name to show) for each acceptable member.

    Encrypted members are skipped without ``password`` (``zip.encrypted``) and with a wrong one (``zip.password``).

    Members are streamed into ``work_dir/<hash of the archive>/<hash of the name>``; their own names are never
    used as paths. Members that already lie there with the right size are reused.

    Raises
    ------
    InputError
        ``zip.damaged``, ``zip.too_many_members`` or ``zip.too_large``.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            if password:
                opened.setpassword(password.encode("utf-8"))
            members = opened.infolist()
            if len(members) > MAX_MEMBERS:
                raise malformed(f"The archive holds more than {MAX_MEMBERS} entries.", "zip.too_many_members")
            target = work_dir / _folder_name(archive)
            target.mkdir(parents=True, exist_ok=True)
            total = 0
            for member in members:
                shown = f"{archive}:{member.filename[:200]}"
                refusal = _refusal(member, password)
                if member.is_dir():
                    continue
                if refusal is not None:
                    skipped.append(SkippedFile(shown, *refusal))
                    continue
                out = target / hashlib.sha256(member.filename.encode("utf-8", "replace")).hexdigest()[:32]
                try:
                    total += _stream(opened, member, out, MAX_TOTAL_BYTES - total)
                except (
                    zipfile.BadZipFile,
                    zlib.error,
                    EOFError,
                    NotImplementedError,
                    ValueError,
                ):
                    out.unlink(missing_ok=True)
                    skipped.append(SkippedFile(shown, "zip.member_damaged", "This entry cannot be unpacked."))
                    continue
                except RuntimeError:  # zipfile's word for a wrong password
                    out.unlink(missing_ok=True)
                    skipped.append(
                        SkippedFile(shown, "zip.password", "The password doesn't open this entry.")
                    )
                    continue
                yield out, shown
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError) as error:
        raise malformed("The ZIP archive is damaged.", "zip.damaged") from error


def _folder_name(archive: Path) -> str:
    status = archive.stat()
    identity = f"{archive.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return "zip-" + hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:24]


def _refusal(member: zipfile.ZipInfo, password: str | None) -> tuple[str, str] | None:
    name = member.filename
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or ":" in parts[0]:
        return "zip.unsafe_name", "The entry's name points outside of the archive."
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "zip.not_regular", "The entry is a link or a device."
    if member.flag_bits & 1 and member.compress_type == _AES:
        return "zip.encrypted", "The entry is encrypted with AES; unpack the archive with another program."
    if member.flag_bits & 1 and not password:
        return "zip.encrypted", "The entry is encrypted; import the archive with its password."
    if member.file_size > RATIO_FREE_BYTES and member.file_size > MAX_RATIO * max(1, member.compress_size):
        return "zip.ratio", f"The entry grows more than {MAX_RATIO} times when unpacked."
    return None


def _stream(opened: zipfile.ZipFile, member: zipfile.ZipInfo, out: Path, budget: int) -> int:
    """Unpack one member, never more of it than it states; return its size. Sealed where the folder is mounted."""
    if out.exists() and plain_size(out) == member.file_size:
        return member.file_size
    if member.file_size > budget:
        raise malformed("The archive is larger than 50 GB when unpacked.", "zip.too_large")
    part = out.with_suffix(".part")
    try:
        with opened.open(member) as source:
            if is_mounted(out):
                # The place is authenticated: a sealed file is written under the name that it keeps.
                out.unlink(missing_ok=True)
                seal_stream(source, member.file_size, out)
            else:
                _copy(source, part, member.file_size)
                part.replace(out)
    except SourceChangedError as error:
        raise zipfile.BadZipFile("another size than stated") from error
    finally:
        part.unlink(missing_ok=True)
    return member.file_size


def _copy(source: IO[bytes], part: Path, size: int) -> None:
    count = 0
    with part.open("wb") as target:
        while chunk := source.read(_CHUNK):
            count += len(chunk)
            if count > size:
                break
            target.write(chunk)
    if count != size:
        raise SourceChangedError("another size than stated")
