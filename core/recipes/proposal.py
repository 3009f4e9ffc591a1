"""Looks at a data folder and says how its cases are laid out."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.dicom.scan import scan_paths
from core.domain.errors import InputError
from core.domain.study import ObjectKind
from core.recipes.reading import read_volume
from core.recipes.sources.base import (
    DICOM,
    NIFTI,
    NRRD,
    PICTURES,
    files_below,
    natural_key,
    relative_id,
    require_folder,
)
from core.recipes.sources.dicom_series import structure_names

Task = Literal["classification", "segmentation"]

_IMAGES = (*PICTURES, *NIFTI, *NRRD)
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "imagestr")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "labelstr", "annotations", "segmentations", "seg")
_MASK_SUFFIXES = ("_mask", "-mask", "_seg", "-seg", "_label")
_MASK_FILE = re.compile(r"(mask|seg|label)", re.IGNORECASE)
_PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_PATIENT = r"(?i)^((?:patient|pat|subject|sub|case|person|p|s)[-_ ]?[0-9]+)"
_LOOKED_AT = 24


@dataclass(frozen=True)
class Proposal:
    """How the cases of a folder seem to be laid out.

    Attributes
    ----------
    source : dict
        The section ``data.source`` of a recipe.
    split : dict
        What of ``data.split`` differs from the default.
    labels : tuple of (int, str)
        Values and names of classes or structures.
    size_kji : tuple of int
        Median size in voxels.
    spacing_ijk_mm : tuple of float or None
        Median spacing; None for pictures.
    modality : str
        ``"CT"``, ``"OT"`` …
    colour : bool
        Whether the images have colour.
    notes : tuple of str
        What a person should look at.
    """

    task: Task
    source: dict[str, Any]
    channels: tuple[str, ...] = ("image",)
    split: dict[str, Any] = field(default_factory=dict)
    labels: tuple[tuple[int, str], ...] = ()
    size_kji: tuple[int, int, int] = (1, 0, 0)
    spacing_ijk_mm: tuple[float, float, float] | None = None
    modality: str = "OT"
    colour: bool = False
    notes: tuple[str, ...] = ()

    @property
    def spatial_dims(self) -> int:
        """2 for pictures, 3 for volumes."""
        return 3 if self.size_kji[0] > 1 else 2


def propose(folder: Path) -> Proposal:
    """Return how the cases of a folder seem to be laid out.

    Raises
    ------
    InputError
        ``data.unknown_layout`` when it is none of the known ones.
    """
    require_folder(folder)
    looks: tuple[Callable[[Path], Proposal | None], ...] = (_table, _pairs, _patients, _classes, _dicom)
    for look in looks:
        found = look(folder)
        if found is not None:
            return found
    raise InputError(
        "data.unknown_layout",
        f"How the cases lie in “{folder.name}” isn't clear.",
        "Use a folder per class, images/ and masks/ with the same names, a folder per patient with a mask, DICOM "
        "series with SEG or RTSTRUCT, or a table manifest.csv.",
    )


def _table(folder: Path) -> Proposal | None:
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        return None
    with tables[0].open(encoding="utf-8-sig", newline="") as stream:
        head = stream.readline()
        delimiter = max(",;\t", key=head.count)
        columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
        rows = list(csv.DictReader(stream, fieldnames=columns, delimiter=delimiter))
    files = [name for name in columns if name == "file" or name.startswith("file_")]
    if not files or not rows or not {"label", "mask"} & set(columns):
        return None
    channels = tuple(name.removeprefix("file_") if name != "file" else "image" for name in files)
    source: dict[str, Any] = {"name": "csv_manifest", "file": tables[0].name}
    paths = [folder / (row[files[0]] or "") for row in rows]
    split = {"method": "given"} if all(row.get("part") for row in rows) else {}
    notes = () if "patient" in columns else (_no_patients("a column “patient” in the table"),)
    if "mask" in columns:
        masks = [folder / row["mask"] for row in rows if row.get("mask")]
        source["values"], labels = _mask_labels(masks)
        return _measured(Proposal("segmentation", source, channels, split, labels, notes=notes), paths)
    names = sorted({(row["label"] or "").strip() for row in rows}, key=natural_key)
    if not all(name.isdecimal() for name in names):
        source["classes"] = names
    labels = tuple(enumerate(names))
    return _measured(Proposal("classification", source, channels, split, labels, notes=notes), paths)


def _pairs(folder: Path) -> Proposal | None:
    below = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    images = next((below[name] for name in _IMAGE_FOLDERS if name in below), None)
    masks = next((below[name] for name in _MASK_FOLDERS if name in below), None)
    if images is None or masks is None:
        images, masks = folder, folder
    names = {relative_id(path, images): path for path in files_below(images, _IMAGES)}
    marked = {relative_id(path, masks): path for path in files_below(masks, _IMAGES)}
    suffixes = _MASK_SUFFIXES if images == masks else ("", *_MASK_SUFFIXES)
    for suffix in suffixes:
        pairs = [(path, marked[key + suffix]) for key, path in names.items() if key + suffix in marked]
        if len(pairs) >= 2 and len(pairs) >= 0.5 * len(names) / (2 if images == masks else 1):
            source: dict[str, Any] = {"name": "image_mask_files"}
            source["images"] = images.relative_to(folder).as_posix()
            source["masks"] = masks.relative_to(folder).as_posix()
            source |= {"mask_suffix": suffix} if suffix else {}
            source["values"], labels = _mask_labels([mask for _, mask in pairs])
            notes = _with_pattern(source, [path for path, _ in pairs])
            return _measured(
                Proposal("segmentation", source, labels=labels, notes=notes), [path for path, _ in pairs]
            )
    return None


def _patients(folder: Path) -> Proposal | None:
    """Folders whose files have the same few names, one of which is a mask's."""
    counts = Counter(path.name for path in files_below(folder, NIFTI) if path.parent != folder)
    if not counts:
        return None
    often = max(counts.values())
    common = sorted(name for name, number in counts.items() if number >= max(2, 0.5 * often))
    masks = [name for name in common if _MASK_FILE.search(name)]
    images = [name for name in common if name not in masks]
    if len(masks) != 1 or not images or len(images) > 8:
        return None
    channels = {re.sub(r"[^a-z0-9_]", "_", name.split(".")[0].lower()): name for name in images}
    files = [path for path in files_below(folder, NIFTI) if path.name in common]
    source: dict[str, Any] = {"name": "nifti_patients", "files": channels, "mask": masks[0]}
    source["values"], labels = _mask_labels([path for path in files if path.name == masks[0]])
    notes = [f"{often - counts[name]} folders lack {name}." for name in images if counts[name] < often]
    measured = [path for path in files if path.name == images[0]]
    return _measured(
        Proposal("segmentation", source, tuple(channels), labels=labels, notes=tuple(notes)), measured
    )


def _classes(folder: Path) -> Proposal | None:
    folders = _class_folders(folder)
    parts: dict[str, str] = {}
    below = {path.name.lower(): path.name for path in folder.iterdir() if path.is_dir()}
    for part, words in _PARTS.items():
        own = [below[word] for word in words if word in below]
        if own:
            parts[part] = own[0]
    if {"train", "test"} <= parts.keys() and len(parts) == len(below):
        folders = _class_folders(folder / parts["train"])
    else:
        parts = {}
    if len(folders) < 2:
        return None
    files = [
        path for name in folders for path in files_below(folder / parts.get("train", "") / name, _IMAGES)
    ]
    source: dict[str, Any] = {"name": "class_folders", "classes": folders}
    source |= {"parts": parts} if parts else {}
    notes = _with_pattern(source, files)
    split = {"method": "given"} if parts else {}
    labels = tuple(enumerate(folders))
    return _measured(Proposal("classification", source, split=split, labels=labels, notes=notes), files)


def _class_folders(folder: Path) -> list[str]:
    below = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted((p.name for p in below if files_below(p, (*_IMAGES, *DICOM))), key=natural_key)


def _dicom(folder: Path) -> Proposal | None:
    scanned = scan_paths([folder], children=0).series
    masks = [
        s for s in scanned if s.summary.object_kind in (ObjectKind.SEGMENTATION, ObjectKind.STRUCTURE_SET)
    ]
    counts: Counter[str] = Counter()
    for series in masks:
        for instance in series.instances:
            counts.update(structure_names(instance.file, series.summary.object_kind))
    if not counts:
        return None
    names = sorted(counts, key=natural_key)
    sources = {uid for series in masks for uid in series.summary.source_series}
    images = [s for s in scanned if s.summary.series_uid in sources and s.summary.shape_kji is not None]
    if not images:
        return None
    source = {
        "name": "dicom_series",
        "structures": {name: number for number, name in enumerate(names, start=1)},
    }
    first = images[0].summary
    spacing = first.spacing_kji_mm
    return Proposal(
        "segmentation",
        source,
        labels=tuple((number, name) for number, name in enumerate(names, start=1)),
        size_kji=first.shape_kji or (1, 0, 0),
        spacing_ijk_mm=None if spacing is None else (spacing[2], spacing[1], spacing[0]),
        modality=first.modality,
        notes=tuple(
            f"“{name}” is drawn in {counts[name]} objects only." for name in names if counts[name] < 3
        ),
    )


def _with_pattern(source: dict[str, Any], files: Sequence[Path]) -> tuple[str, ...]:
    """Add a pattern of patients that fits all names; else tell that nothing names them."""
    found = [re.search(_PATIENT, path.name) for path in files]
    patients = {match[1] for match in found if match}
    if all(found) and 1 < len(patients) < len(files):
        source["patient_pattern"] = _PATIENT
        return (f"The file names seem to name {len(patients)} patients; check data.source.patient_pattern.",)
    return (_no_patients("data.source.patient_pattern"),)


def _no_patients(remedy: str) -> str:
    return (
        "Nothing says which images belong to one patient; each counts as its own, so results may look better than "
        f"they are. Give {remedy}."
    )


def _mask_labels(masks: Sequence[Path]) -> tuple[dict[int, int], tuple[tuple[int, str], ...]]:
    """Return value in the masks → label (empty when equal), and the labels; some of the masks are looked at."""
    found: set[int] = set()
    for path in _some(masks):
        voxels = read_volume((path,)).voxels
        voxels = voxels[..., 0] if voxels.ndim == 4 else voxels
        if path.name.lower().endswith((".jpg", ".jpeg")):
            voxels = np.where(voxels > 127, 255, 0)
        found |= {int(value) for value in np.unique(voxels)[:300]}
    values = sorted(found - {0})
    if values in ([255], [1], []):
        return {}, ((1, "structure-1"),)
    labels = tuple((number, f"structure-{number}") for number in range(1, len(values) + 1))
    mapping = {value: number for number, value in enumerate(values, start=1)}
    return ({} if all(a == b for a, b in mapping.items()) else mapping), labels


def _measured(proposal: Proposal, files: Sequence[Path]) -> Proposal:
    """Add size, spacing, modality and colour, from some of the files."""
    volumes = [read_volume((path,)) for path in _some(files)]
    if not volumes:
        return proposal
    k, j, i = np.median([volume.geometry.shape_kji for volume in volumes], axis=0).astype(int)
    picture = any(issue.code == "geometry.uncalibrated" for issue in volumes[0].issues)
    spacing = np.median([volume.geometry.spacing_ijk_mm for volume in volumes], axis=0)
    return Proposal(
        **{
            **proposal.__dict__,
            "size_kji": (int(k), int(j), int(i)),
            "spacing_ijk_mm": None if picture else tuple(float(mm) for mm in spacing),
            "modality": Counter(volume.modality for volume in volumes).most_common(1)[0][0],
            "colour": any(_coloured(volume.voxels) for volume in volumes),
        }
    )


def _coloured(voxels: Any) -> bool:
    return bool(voxels.ndim == 4 and np.ptp(voxels.astype(np.int16), axis=-1).max() > 8)


def _some(files: Sequence[Path]) -> list[Path]:
    step = max(1, len(files) // _LOOKED_AT)
    return list(files[::step])[:_LOOKED_AT]
