"""Heads with lesions painted on them: a task that needs no labels, to begin a classifier of lesions with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.formats.images import read_image
from core.phantom.lesions import EXTRA_AXIAL, INTRA_AXIAL, SIDE, depth_of, paint, varied_healthy
from core.recipes.cases import UNJUDGED, Case, CaseData, Part
from core.recipes.sources.base import CaseSource, files_below, refusal
from core.recipes.sources.class_folders import ClassFoldersSource
from core.recipes.sources_schema import PaintedLesions

_SLICES = 44
_WITHOUT = 0.1
_TRIES = 20
_NEAR_PX = 16
"""Around a painted lesion this much of a patient's picture is judged: what else lies there isn't known."""


class PaintedLesionsSource(CaseSource):
    """Each case is one painted head, drawn by its number; hosts are the training pictures of a classification.

    On a patient's picture only the surroundings of the painted lesion are judged (elsewhere the label is ``UNJUDGED``);
    on slices of healthy volumes everything is. The last ``held_out`` cases of each part are of healthy volumes, or of
    pictures when there are none.
    """

    name = "painted_lesions"

    def cases(self, settings: PaintedLesions, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases; each names the files that it is made of."""
        hosts = _hosts(settings, folder, channels)
        healthy = [_volume_files(name, folder) for name in settings.healthy]
        total = settings.count + 2 * settings.held_out
        made = []
        for number in range(total):
            rng = np.random.default_rng((settings.seed, number))
            part = Part.TRAIN
            if number >= settings.count:
                part = Part.VALIDATION if number < settings.count + settings.held_out else Part.TEST
            of_volume = bool(healthy) and (part is not Part.TRAIN or rng.random() < settings.healthy_share)
            files = (
                healthy[int(rng.integers(len(healthy)))]
                if of_volume
                else hosts[int(rng.integers(len(hosts)))]
            )
            case_id = f"painted-{number:05d}"
            attributes = {"host": "healthy" if of_volume else "picture"}
            made.append(
                Case(
                    case_id, case_id, case_id, images={channels[0]: files}, part=part, seed=number,
                    attributes=attributes,
                )
            )  # fmt: skip
        return made

    def read(self, case: Case, settings: PaintedLesions, channels: tuple[str, ...]) -> CaseData:
        """Paint the case."""
        rng = np.random.default_rng((settings.seed, case.seed or 0, 1))
        files = case.images[channels[0]]
        healthy = case.attributes["host"] == "healthy"
        for _ in range(_TRIES):
            head = _slice_of(files, rng) if healthy else _picture(files[0])
            depth = depth_of(head)
            if healthy:
                head = varied_healthy(head, depth, rng)
                if rng.random() < _WITHOUT:
                    return _as_case(head, np.zeros(head.shape, np.uint8), channels, case.id)
            kind = (INTRA_AXIAL, EXTRA_AXIAL)[int(rng.integers(2))]
            painted = paint(head, depth, kind, rng)
            if painted is not None and _visible(head, *painted):
                return _as_case(painted[0], _labels(painted[1], kind, healthy), channels, case.id)
        raise refusal("no_head", f"“{files[0].name}” shows no head to paint on.", "Remove it from the data.")


def _hosts(settings: PaintedLesions, folder: Path, channels: tuple[str, ...]) -> list[tuple[Path, ...]]:
    """Return the pictures that the classification trains on; those it is tested on are never seen here."""
    # Splits and readers know the sources.
    from core.recipes.splits import split_cases
    from core.recipes.thumbnails import picture_thumbnail

    cases = ClassFoldersSource().cases(settings.hosts, folder, channels)
    split = split_cases(cases, settings.split, settings.split.seed or 0, picture_thumbnail)
    return [case.images[channels[0]] for case in split.parts[Part.TRAIN]]


def _volume_files(name: str, folder: Path) -> tuple[Path, ...]:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            "outside", "A healthy volume lies outside of the data folder.", "Correct data.source.healthy."
        )
    files = tuple(files_below(path, ("",))) if path.is_dir() else (path,)
    if not files or not files[0].is_file():
        raise refusal("no_image", f"The healthy volume “{name}” isn't there.", "Correct data.source.healthy.")
    return files


def _picture(file: Path) -> NDArray[np.float32]:
    image = np.asarray(read_image(file).voxels[0], dtype=np.float32)
    grey = image.mean(axis=-1) if image.ndim == 3 else image
    return _scaled(Image.fromarray(grey.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _slice_of(files: Sequence[Path], rng: np.random.Generator) -> NDArray[np.float32]:
    pool = _slices(tuple(files)).pictures
    return np.asarray(pool[int(rng.integers(len(pool)))] / np.float32(255), dtype=np.float32)


class _Slices:
    """Head slices of one volume in its three planes, as pictures of ``SIDE`` pixels."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files

    @cached_property
    def pictures(self) -> list[NDArray[np.uint8]]:
        from core.recipes.reading import read_volume  # the readers know the sources

        volume = read_volume(self._files)
        array = _superior_first(volume)
        spacing = _spacing_kji(volume)
        array = ndimage.zoom(array, spacing, order=1) if not np.allclose(spacing, 1, atol=0.02) else array
        head = array > 0.1 * np.percentile(array, 99.5)
        return [picture for axis in range(3) for picture in _along(array, head, axis)]


@lru_cache(maxsize=8)
def _slices(files: tuple[Path, ...]) -> _Slices:
    return _Slices(files)


def _along(array: NDArray, head: NDArray, axis: int) -> list[NDArray[np.uint8]]:
    used = np.flatnonzero(head.sum(axis=tuple(a for a in range(3) if a != axis)) > 2000)
    if len(used) < 2:
        return []
    low, high = used[0], used[-1]
    # Axial slices below the brain's base show no brain.
    first, last = (low + 0.4 * (high - low), high - 0.08 * (high - low)) if axis == 0 else (
        low + 0.12 * (high - low), high - 0.12 * (high - low)
    )  # fmt: skip
    made = []
    for number in np.linspace(first, last, _SLICES).astype(int):
        plane = np.take(array, number, axis=axis)
        plane = plane if axis == 0 else plane[::-1]  # superior up
        bright = np.clip(plane / max(1.0, float(np.percentile(plane, 99.8))), 0, 1) * 200
        made.append(_around_head(bright.astype(np.uint8)))
    return made


def _around_head(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the square around the head with a margin as pictures have one, ``SIDE`` pixels wide."""
    mask = ndimage.binary_opening(plane > 0.08 * np.percentile(plane, 99.5), iterations=2)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        rows, columns = np.arange(plane.shape[0]), np.arange(plane.shape[1])
    half = 1.12 * max(rows[-1] - rows[0], columns[-1] - columns[0]) / 2 + 2
    y, x = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    box = (int(x - half), int(y - half), int(x + half), int(y + half))
    cut = Image.fromarray(plane).crop(box)
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.uint8)


def _superior_first(volume: Volume) -> NDArray[np.float32]:
    """Return the voxels along S, P, L: first axis upwards, then towards the back, then to the patient's left."""
    matrix = np.asarray(volume.geometry.lps_from_ijk)[:3, :3]
    major = np.argmax(np.abs(matrix), axis=0)
    columns = [int(np.flatnonzero(major == axis)[0]) for axis in range(3)]  # of L, P, S
    array = np.asarray(volume.voxels, dtype=np.float32).transpose(
        [2 - columns[2], 2 - columns[1], 2 - columns[0]]
    )
    for place, axis in enumerate((2, 1, 0)):
        if matrix[axis, columns[axis]] < 0:
            array = np.flip(array, axis=place)
    return np.ascontiguousarray(array)


def _spacing_kji(volume: Volume) -> tuple[float, float, float]:
    matrix = np.asarray(volume.geometry.lps_from_ijk)[:3, :3]
    major = np.argmax(np.abs(matrix), axis=0)
    sizes = np.linalg.norm(matrix, axis=0)
    by_axis = {int(axis): float(size) for axis, size in zip(major, sizes, strict=True)}
    return by_axis[2], by_axis[1], by_axis[0]


def _scaled(image: Image.Image) -> NDArray[np.float32]:
    array = np.asarray(image, dtype=np.float32)
    low, high = float(array.min()), float(array.max())
    return np.asarray((array - low) / max(high - low, 1e-6), dtype=np.float32)


def _visible(head: NDArray, painted: NDArray, opacity: NDArray) -> bool:
    core = opacity > 0.5
    return bool(core.any()) and float(np.abs(painted - head)[core].mean()) >= 0.05


def _labels(opacity: NDArray, kind: int, healthy: bool) -> NDArray[np.uint8]:
    lesion = opacity > 0.5
    labels = np.zeros(opacity.shape, dtype=np.uint8)
    if not healthy:
        near = ndimage.distance_transform_edt(~lesion) <= _NEAR_PX
        labels[~near] = UNJUDGED
    labels[lesion] = kind
    return labels


def _as_case(head: NDArray, labels: NDArray[np.uint8], channels: tuple[str, ...], name: str) -> CaseData:
    geometry = VolumeGeometry.from_axes((1, SIDE, SIDE), (1.0, 1.0, 1.0), np.eye(3), (0.0, 0.0, 0.0))
    voxels = np.rint(np.clip(head, 0, 1) * 255).astype(np.uint8)[None]
    volume = Volume(geometry=geometry, voxels=voxels, modality="MR", series_uid=name, units="stored")
    return CaseData(dict.fromkeys(channels, volume), labels=labels[None])
