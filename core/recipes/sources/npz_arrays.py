"""Pictures and classes in one NumPy archive, as MedMNIST ships them: arrays per part, no files per case.

Source: J. Yang et al., MedMNIST v2, Scientific Data 10 (2023) 41, for the names of the arrays.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.config.sealed_file import open_plain
from core.domain.errors import EnvironmentFault
from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue, Volume
from core.recipes.cases import Case, CaseData, Part
from core.recipes.sources.base import CaseSource, refusal, require_folder
from core.recipes.sources_schema import NpzArrays

MAX_BYTES = 4 << 30
PREFIXES = {Part.TRAIN: "train", Part.VALIDATION: "val", Part.TEST: "test"}
_UNCALIBRATED = SeriesIssue(
    "geometry.uncalibrated", "The array states no size in millimetres and no position.", blocks_volumetry=True
)
Arrays = Mapping[str, NDArray]


class NpzArraysSource(CaseSource):
    """Each row of ``train_images``, ``val_images`` and ``test_images`` is a case; its class is the row of ``…_labels``.

    A picture that occurs again (equal pixels) is left out unless ``repeats`` is ``keep``: of a group the one stays that
    judges, test before validation before training, so that no part holds a picture of another one.
    """

    name = "npz_arrays"

    def cases(self, settings: NpzArrays, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases part by part, in the order of the arrays."""
        require_folder(folder)
        file = _file(settings, folder)
        arrays = read_arrays(file)
        left_out = _repeats(arrays) if settings.repeats == "leave_out" else frozenset()
        found, number = [], 0
        for part, prefix in PREFIXES.items():
            labels = _labels(arrays, prefix, file.name)
            for row, label in enumerate(labels.tolist()):
                if (prefix, row) not in left_out:
                    case_id = f"{prefix}-{row:06d}"
                    found.append(
                        Case(
                            case_id,
                            case_id,
                            case_id,
                            {channels[0]: (file,)},
                            label=int(label),
                            part=part,
                            seed=number,
                        )
                    )
                number += 1
        return found

    def read(self, case: Case, settings: NpzArrays, channels: tuple[str, ...]) -> CaseData:
        """Return the picture, or volume, of a row."""
        file = case.images[channels[0]][0]
        prefix, _, row = case.id.partition("-")
        pixels = read_arrays(file)[f"{prefix}_images"][int(row)]
        colour = pixels.ndim > 2 and pixels.shape[-1] == 3
        voxels = pixels if pixels.ndim == (4 if colour else 3) else pixels[None]
        if voxels.dtype.kind in "ui" and voxels.dtype.itemsize == 1 and not colour:
            voxels = voxels.astype(np.int16)
        volume = Volume(
            geometry=VolumeGeometry(voxels.shape[:3], np.eye(4)),
            voxels=np.ascontiguousarray(voxels),
            modality=settings.modality,
            series_uid=case.id,
            issues=(_UNCALIBRATED,),
        )
        return CaseData(dict.fromkeys(channels, volume), label=case.label)


def read_arrays(file: Path) -> Arrays:
    """Return the arrays of an archive, read once while the file stays the same.

    Returns
    -------
    mapping of str to numpy.ndarray
        ``<part>_images`` ``(N, H, W)``, ``(N, H, W, 3)`` or ``(N, K, J, I)``, and ``<part>_labels`` ``(N,)`` or
        ``(N, 1)``; read-only.

    Raises
    ------
    InputError
        ``data.npz``: no archive, too large, an array missing, of objects, or of another length than its labels.
    EnvironmentFault
        ``data.unreadable``.
    """
    try:
        state = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    return _read(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(file: Path, mtime_ns: int, size: int) -> Arrays:
    del mtime_ns, size  # a changed file is read again
    try:
        with open_plain(file) as stream:
            with zipfile.ZipFile(stream) as archive:
                total = sum(entry.file_size for entry in archive.infolist())
            if total > MAX_BYTES:
                raise refusal(
                    "npz", f"“{file.name}” unpacks to {total >> 20} MB.", f"{MAX_BYTES >> 20} MB is the most."
                )
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as opened:
                arrays = {name: opened[name] for name in opened.files}
    except OSError as error:
        raise _unreadable(file, error) from error
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise refusal(
            "npz",
            f"“{file.name}” is no archive of plain arrays ({type(error).__name__}).",
            "Save it with numpy.savez; arrays of objects aren't read.",
        ) from error
    _check(arrays, file.name)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _check(arrays: Arrays, name: str) -> None:
    for prefix in PREFIXES.values():
        images = arrays.get(f"{prefix}_images")
        if images is None or f"{prefix}_labels" not in arrays:
            raise refusal(
                "npz",
                f"“{name}” has no {prefix}_images or no {prefix}_labels.",
                "Name the arrays as MedMNIST does: train_, val_ and test_ images and labels.",
            )
        if images.ndim not in (3, 4) or images.dtype.kind not in "uif" or 0 in images.shape[1:]:
            shape = " × ".join(str(n) for n in images.shape)
            raise refusal(
                "npz",
                f"{prefix}_images of “{name}” are {shape} {images.dtype}.",
                "Give pictures (N, H, W) or (N, H, W, 3), or volumes (N, K, J, I), of numbers.",
            )
        if len(_labels(arrays, prefix, name)) != len(images):
            raise refusal(
                "npz",
                f"“{name}” has {len(images)} {prefix}_images and {len(arrays[f'{prefix}_labels'])} labels.",
                "Give one label per image.",
            )


def _labels(arrays: Arrays, prefix: str, name: str) -> NDArray[np.int64]:
    labels = arrays[f"{prefix}_labels"]
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "ui":
        shape = " × ".join(str(n) for n in labels.shape)
        raise refusal(
            "npz",
            f"{prefix}_labels of “{name}” are {shape} {labels.dtype}.",
            "Give one whole number per image; several labels per image aren't supported.",
        )
    return flat.astype(np.int64)


def _repeats(arrays: Arrays) -> frozenset[tuple[str, int]]:
    """Return part and row of the pictures whose equal stays."""
    seen: set[bytes] = set()
    out = []
    for part in (Part.TEST, Part.VALIDATION, Part.TRAIN):
        prefix = PREFIXES[part]
        for row, image in enumerate(arrays[f"{prefix}_images"]):
            content = image.tobytes()
            if content in seen:
                out.append((prefix, row))
            seen.add(content)
    return frozenset(out)


def _file(settings: NpzArrays, folder: Path) -> Path:
    if settings.file:
        file = folder / settings.file
        if not file.resolve().is_relative_to(folder.resolve()):
            raise refusal("outside", "data.source.file leaves the data folder.", "Correct the recipe.")
        if not file.is_file():
            raise refusal(
                "no_image", f"“{settings.file}” isn't in the data folder.", "Give the right --data."
            )
        return file
    found = sorted(folder.glob("*.npz"))
    if len(found) != 1:
        raise refusal(
            "npz",
            f"The data folder holds {len(found)} .npz files.",
            "Say with data.source.file which one.",
        )
    return found[0]


def _unreadable(file: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        "data.unreadable", f"“{file.name}” can't be read: {error.strerror}.", "Check that it may be read."
    )
