"""Make a synthetic DICOM study with its ground truth."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation
from core.export.seg import ObjectPlace, SegmentAuthor, WrittenSeg, write_seg
from core.export.source import read_source
from core.phantom.acquisition import Acquisition, cr_acquisition, ct_acquisition, mr_acquisition
from core.phantom.brain import BrainSpec, make_brain
from core.phantom.cxr import CxrSpec, make_cxr
from core.phantom.dicom import PhantomSubject, WrittenStudy, uid_of, write_study
from core.phantom.spec import Phantom, ThoraxSpec
from core.phantom.thorax import make_thorax

_GEOMETRY_SETTINGS = ("slice_thickness_mm", "spacing_mm", "fov_mm", "matrix", "slices")
_SUBJECT_SETTINGS = ("patient_name", "patient_id", "birth_date", "sex")
# Other names that people use for the same thing.
_SYNONYMS = {
    "slice_thickness": "slice_thickness_mm",
    "spacing": "spacing_mm",
    "fov": "fov_mm",
    "size_px": "matrix",
}


@dataclasses.dataclass(frozen=True)
class _Kind:
    """One kind of phantom: its specification, its default grid, its maker and its technique."""

    spec: Any
    make: Callable[[Any], Phantom]
    acquire: Callable[[Any, VolumeGeometry], Acquisition]
    patient_name: str


def _ct(spec: ThoraxSpec, grid: VolumeGeometry) -> Acquisition:
    return ct_acquisition(spec.kernel, spec.contrast, grid.spacing_ijk_mm[0] * grid.shape_ijk[0])


_KINDS: Mapping[str, _Kind] = {
    "ct-thorax": _Kind(
        ThoraxSpec(shape_kji=(110, 256, 256), spacing_kji_mm=(3.0, 1.5, 1.5)),
        make_thorax,
        _ct,
        "PHANTOM^THORAX",
    ),
    "mr-brain": _Kind(BrainSpec(), make_brain, lambda _spec, _grid: mr_acquisition(), "PHANTOM^BRAIN"),
    "cxr": _Kind(CxrSpec(), make_cxr, lambda spec, _grid: cr_acquisition(spec.view), "PHANTOM^CHEST"),
}


def make_phantom(kind: str, out: Path, *, seed: int = 0, **params: Any) -> dict[str, Any]:
    """Write a synthetic study and its ground truth.

    Parameters
    ----------
    kind : str
        ``"ct-thorax"``, ``"mr-brain"`` or ``"cxr"``.
    out : Path
        Folder; images go to ``images``, the ground truth to ``truth``.
    seed : int
        Decides anatomy, noise and every UID.
    **params
        ``slice_thickness_mm``, ``spacing_mm`` (in the plane), ``fov_mm``, ``matrix``, ``slices``;
        ``patient_name``, ``patient_id``, ``birth_date``, ``sex``; and every field of the kind's
        specification (``ThoraxSpec``: habitus, kernel, arms, rotation_deg, …).

    Returns
    -------
    dict
        ``study_uid``, ``series_uid``, ``modality``, ``files``, ``seg_file`` and ``seg_sop_instance_uid``
        (None when the kind has no labels in patient space), ``shape_kji``, ``spacing_mm`` (k, j, i),
        ``segments`` (label → volume_ml; empty for a projection), ``seconds``.

    Raises
    ------
    InputError
        Unknown kind or setting (codes ``phantom.kind``, ``phantom.setting``).
    """
    started = time.perf_counter()
    chosen = _KINDS.get(kind)
    if chosen is None:
        raise InputError(
            "phantom.kind", f"There is no phantom {kind!r}.", f"Choose one of {', '.join(_KINDS)}."
        )
    settings = {_SYNONYMS.get(name, name): value for name, value in params.items()}
    subject = _subject(chosen, settings)
    spec = _specification(chosen, seed, settings)
    phantom = chosen.make(spec)
    acquisition = chosen.acquire(spec, phantom.geometry)
    key = f"{kind}:{hashlib.sha256(repr((spec, subject)).encode()).hexdigest()}"
    study = write_study(phantom.hu, phantom.geometry, acquisition, subject, key=key, out=out / "images")
    truth = _write_truth(phantom, study, acquisition, key, out / "truth")
    return {
        "kind": kind,
        "study_uid": study.study_uid,
        "series_uid": study.series_uid,
        "modality": acquisition.modality,
        "files": [str(file) for file in study.files],
        "seg_file": str(truth.file.path) if truth else None,
        "seg_sop_instance_uid": truth.file.sop_instance_uid if truth else None,
        "shape_kji": list(phantom.geometry.shape_kji),
        "spacing_mm": list(phantom.geometry.spacing_kji_mm),
        "segments": _volumes(phantom) if acquisition.in_patient_space else {},
        "seconds": round(time.perf_counter() - started, 3),
    }


def _subject(kind: _Kind, settings: dict[str, Any]) -> PhantomSubject:
    """Take the subject's settings out of ``settings``."""
    given: dict[str, Any] = {name: str(settings.pop(name)) for name in _SUBJECT_SETTINGS if name in settings}
    return dataclasses.replace(PhantomSubject(patient_name=kind.patient_name), **given)


def _specification(kind: _Kind, seed: int, settings: dict[str, Any]) -> Any:
    """Change the kind's default specification as the settings say."""
    geometric = {name: settings.pop(name) for name in _GEOMETRY_SETTINGS if name in settings}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    known = {field.name for field in dataclasses.fields(kind.spec)}
    person = {}
    if isinstance(kind.spec, CxrSpec):
        # The person on a radiograph is a thorax: its settings are given by the same names.
        anatomy = {field.name for field in dataclasses.fields(ThoraxSpec)} - known
        person = {name: values.pop(name) for name in anatomy & set(values)}
        known |= anatomy
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(
            "phantom.setting",
            f"The phantom has no setting {unknown[0]!r}.",
            f"Known settings: {', '.join(sorted((known - {'seed'}) | set(_GEOMETRY_SETTINGS)))}.",
        )
    try:
        spec = dataclasses.replace(kind.spec, **{"seed": seed, **values})
        if person:
            spec = dataclasses.replace(spec, thorax=dataclasses.replace(spec.thorax, **person))
        return _with_grid(spec, geometric) if geometric else spec
    except (TypeError, ValueError) as error:
        raise InputError(
            "phantom.setting",
            "A setting of the phantom has a value that it cannot have.",
            "Give numbers in millimetres and counts above zero.",
        ) from error


def _with_grid(spec: Any, wanted: Mapping[str, Any]) -> Any:
    """Change the sampling of a specification; what is not asked for keeps its extent in millimetres."""
    if isinstance(spec, CxrSpec):
        shape, spacing = _resampled((1, *spec.pixels), (1.0, spec.pixel_mm, spec.pixel_mm), wanted)
        return dataclasses.replace(spec, pixels=shape[1:], pixel_mm=spacing[1])
    shape, spacing = _resampled(spec.shape_kji, spec.spacing_kji_mm, wanted)
    return dataclasses.replace(spec, shape_kji=shape, spacing_kji_mm=spacing)


def _resampled(
    shape_kji: tuple[int, ...], spacing_kji_mm: tuple[float, ...], wanted: Mapping[str, Any]
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Return shape and spacing (k, j, i) after the geometric settings."""
    shape = np.array(shape_kji, dtype=np.float64)
    spacing = np.array(spacing_kji_mm, dtype=np.float64)
    extent = shape * spacing
    if "fov_mm" in wanted:
        extent[1:] = float(wanted["fov_mm"])
    if "slice_thickness_mm" in wanted:
        spacing[0] = float(wanted["slice_thickness_mm"])
    if "spacing_mm" in wanted:
        spacing[1:] = float(wanted["spacing_mm"])
    if (spacing <= 0).any():
        raise ValueError("spacing")
    if "matrix" in wanted:
        shape[1:] = int(wanted["matrix"])
        if "spacing_mm" not in wanted:
            spacing[1:] = extent[1:] / shape[1:]
    else:
        shape[1:] = np.round(extent[1:] / spacing[1:])
    shape[0] = int(wanted["slices"]) if "slices" in wanted else np.round(extent[0] / spacing[0])
    if (shape < 1).any():
        raise ValueError("empty grid")
    (k, j, i), (dz, dy, dx) = (int(n) for n in shape), (float(v) for v in spacing)
    return (k, j, i), (dz, dy, dx)


def _write_truth(
    phantom: Phantom, study: WrittenStudy, acquisition: Acquisition, key: str, out: Path
) -> WrittenSeg | None:
    """Write the labels as DICOM SEG on the study that was just written, where there are any."""
    if not acquisition.in_patient_space or not phantom.segments or not phantom.labels.any():
        return None
    grid = VolumeGeometry(
        phantom.geometry.shape_kji, phantom.geometry.lps_from_ijk, study.frame_of_reference_uid
    )
    return write_seg(
        Segmentation(grid, phantom.labels, phantom.segments),
        read_source(study.files, grid),
        out,
        result_id=key,
        author=SegmentAuthor(),
        place=ObjectPlace(
            series_uid=uid_of(key, "truth series"), sop_instance_uid=uid_of(key, "truth"), series_number=99
        ),
        description="Ground truth of the phantom",
    )


def _volumes(phantom: Phantom) -> dict[str, float]:
    """Return the volume of each segment in millilitres."""
    counts = np.bincount(phantom.labels.reshape(-1), minlength=256)
    volume_ml = phantom.geometry.voxel_volume_ml
    return {s.label: round(float(counts[s.value]) * volume_ml, 3) for s in phantom.segments}
