"""One prepared case as a file that is read by mapping it into memory.

``OVRCASE1``, the header's length and CRC-32 (two little-endian uint32), the header (JSON, padded with spaces to a
multiple of 64 bytes), then image, label map and foreground index, uncompressed. The header holds the CRC-32 of all
that follows it; a torn or altered file is recognised and never used.
"""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.compute.training.data.prepare import Sample
from core.compute.training.data.targets import Facts
from core.config.sealed_file import open_plain
from core.recipes.cases import UNJUDGED

_MAGIC = b"OVRCASE1"
_ALIGNED = 64
_FLOAT16_SHARE = 5e-4
# Source: nnU-Net v2 ``DefaultPreprocessor._sample_foreground_locations`` keeps at most 10 000 voxels per class too.
_PER_LABEL = 10_000


class Damaged(Exception):
    """The file is not what was written."""


@dataclass(frozen=True, eq=False)
class CachedCase:
    """One prepared case; arrays are read-only and may lie in a mapped file.

    Attributes
    ----------
    image : numpy.ndarray
        ``(C, H, W)`` or ``(C, K, J, I)``, float16 or float32.
    label : numpy.ndarray or None
        ``(H, W)`` or ``(K, J, I)`` uint8.
    foreground : mapping of int to numpy.ndarray
        Label value → flat indices of up to 10 000 of its voxels, drawn evenly.
    voxels : mapping of int to int
        Label value (0 too) → number of its voxels.
    spacing_mm : tuple of float
        (k, j, i).
    facts : Facts
        What reading the case gave beside the voxels (procedural cases); what the source knows isn't repeated here.
    """

    image: NDArray
    label: NDArray[np.uint8] | None
    foreground: Mapping[int, NDArray] = field(default_factory=dict)
    voxels: Mapping[int, int] = field(default_factory=dict)
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    facts: Facts = field(default_factory=Facts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape."""
        return tuple(self.image.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        label = 0 if self.label is None else self.label.nbytes
        return self.image.nbytes + label + sum(index.nbytes for index in self.foreground.values())

    def whole(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return image float32 and label map uint8, both new."""
        return self.crop((0,) * len(self.shape), self.shape)

    def crop(self, start: tuple[int, ...], size: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return a window that lies within the image, reading nothing else of it."""
        window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        # torch widens float16 ten times as fast as numpy.
        image = torch.from_numpy(np.array(self.image[(slice(None), *window)], order="C")).float()
        if self.label is None:
            return image, None
        return image, torch.from_numpy(np.array(self.label[window], order="C"))

    def in_memory(self) -> CachedCase:
        """Return a copy that needs no file."""
        return CachedCase(
            np.array(self.image),
            None if self.label is None else np.array(self.label),
            {value: np.array(index) for value, index in self.foreground.items()},
            dict(self.voxels),
            self.spacing_mm,
            self.facts,
        )


def compact(sample: Sample, seed: int) -> CachedCase:
    """Return a sample as it is stored: float16 where that is exact enough, and the foreground index.

    float16 is taken when no value is off by more than 1/2000 of the image's range.
    """
    image = sample.image.detach().numpy()
    found = sample.label_map
    label = None if found is None else found.numpy()
    foreground, voxels = ({}, {}) if label is None else _foreground(label, seed)
    return CachedCase(_narrowed(image), label, foreground, voxels, sample.spacing_mm, sample.facts)


def _narrowed(image: NDArray[np.float32]) -> NDArray:
    low, high = float(image.min(initial=0.0)), float(image.max(initial=0.0))
    if max(-low, high) > float(np.finfo(np.float16).max):
        return image
    narrow = image.astype(np.float16)
    worst = float(np.abs(narrow.astype(np.float32) - image).max(initial=0.0))
    span = float(image.max(initial=-np.inf) - image.min(initial=np.inf)) if image.size else 0.0
    return narrow if worst <= _FLOAT16_SHARE * span else image


def _foreground(label: NDArray[np.uint8], seed: int) -> tuple[dict[int, NDArray], dict[int, int]]:
    flat = label.ravel()
    counts = np.bincount(flat, minlength=1)
    voxels = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    kind = np.uint32 if flat.size < 2**32 else np.int64
    rng = np.random.default_rng(seed)
    foreground = {}
    for value in voxels:
        if value in (0, UNJUDGED):
            continue
        index = np.flatnonzero(flat == value)
        if len(index) > _PER_LABEL:
            index = np.sort(rng.choice(index, _PER_LABEL, replace=False))
        foreground[value] = index.astype(kind)
    return foreground, voxels


def write_case(stream: IO[bytes], case: CachedCase) -> int:
    """Write a case and return the number of bytes."""
    arrays = {"image": case.image}
    if case.label is not None:
        arrays["label"] = case.label
    arrays |= {f"foreground/{value}": index for value, index in case.foreground.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    table, offset, crc = [], 0, 0
    for name, array in contiguous.items():
        table.append({"name": name, "dtype": array.dtype.str, "shape": array.shape, "offset": offset})
        offset += array.nbytes + -array.nbytes % _ALIGNED
        crc = zlib.crc32(bytes(-array.nbytes % _ALIGNED), zlib.crc32(_bytes(array), crc))
    header = {
        "arrays": table,
        "voxels": {str(value): count for value, count in case.voxels.items()},
        "spacing_mm": case.spacing_mm,
        "facts": [case.facts.label, dict(case.facts.values), case.facts.text],
        "payload": offset,
        "crc32": crc,
    }
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + len(_MAGIC) + 8) % _ALIGNED)
    lead = _MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little")
    stream.write(lead + text)
    for array in contiguous.values():
        stream.write(_bytes(array))
        stream.write(bytes(-array.nbytes % _ALIGNED))
    return len(lead) + len(text) + offset


def read_case_file(path: Path, *, mapped: bool, verify: bool) -> CachedCase:
    """Open a case.

    Parameters
    ----------
    mapped : bool
        Map the file and read what is asked for; else read it whole, unsealed where it is sealed.
    verify : bool
        Compare the CRC-32 of the arrays, which reads all of them.

    Raises
    ------
    Damaged
        When length or checksum differ.
    OSError
        When the file is absent or can't be read.
    """
    with path.open("rb") if mapped else open_plain(path) as stream:
        header, start = _header(stream)
        if mapped:
            buffer: Any = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        else:
            stream.seek(0)
            buffer = stream.read()
    view = memoryview(buffer)
    if len(view) != start + header["payload"]:
        raise Damaged
    if verify and zlib.crc32(view[start:]) != header["crc32"]:
        raise Damaged
    return _case(view, header, start)


def _header(stream: IO[bytes]) -> tuple[dict[str, Any], int]:
    lead = stream.read(len(_MAGIC) + 8)
    if len(lead) != len(_MAGIC) + 8 or not lead.startswith(_MAGIC):
        raise Damaged
    length, crc = (int.from_bytes(lead[at : at + 4], "little") for at in (len(_MAGIC), len(_MAGIC) + 4))
    text = stream.read(length)
    if len(text) != length or zlib.crc32(text) != crc:
        raise Damaged
    header: dict[str, Any] = json.loads(text)
    return header, len(lead) + length


def _case(view: memoryview, header: dict[str, Any], start: int) -> CachedCase:
    arrays: dict[str, NDArray] = {}
    for entry in header["arrays"]:
        kind, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        flat = np.frombuffer(view, dtype=kind, count=count, offset=start + entry["offset"])
        arrays[entry["name"]] = flat.reshape(shape)
    foreground = {
        int(name.partition("/")[2]): a for name, a in arrays.items() if name.startswith("foreground/")
    }
    voxels = {int(value): int(count) for value, count in header["voxels"].items()}
    k, j, i = (float(n) for n in header["spacing_mm"])
    known, values, report = header["facts"]
    facts = Facts(known, {str(name): float(value) for name, value in values.items()}, report)
    return CachedCase(arrays["image"], arrays.get("label"), foreground, voxels, (k, j, i), facts)


def _bytes(array: NDArray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
