"""Describes an opened derived object as a document, and writes it in formats that other programs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config.atomic import atomic_path
from core.dicom.derived.rasterize import contours_as_segmentation
from core.domain.audit import AuditCode
from core.domain.derived import (
    DerivedHeader,
    DerivedObject,
    DerivedSegmentation,
    Document,
    KeyObjects,
    ParametricMap,
    PresentationState,
    ReportPlace,
    SourceImage,
    StructureContours,
    StructuredReport,
)
from core.domain.errors import EnvironmentFault, InputError
from core.domain.geometry import VolumeGeometry
from core.formats.nifti import write_nifti
from core.services.derived_objects import find_object, grid_of, open_derived, render_page
from core.services.engine import Engine

PAGE_WIDTH_PX = 1600
_MOST_PAGES = 500


def show_derived(
    engine: Engine, reference: str, target_series_key: str | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Open an object, describe it, and write it when ``out`` is given.

    Parameters
    ----------
    reference : str
        SOP Instance UID, or a derived series.
    out : Path or None
        Folder: a segmentation, structure set or map is written as NIfTI (one file per layer), a report, presentation
        state or key images as JSON, a document's pages as PNG.

    Returns
    -------
    dict
        The document of ``overread derived show``.

    Raises
    ------
    AppError
        As ``open_derived``; when the folder can't be written.
    """
    opened = open_derived(engine, reference, target_series_key)
    document = header_document(opened.header) | _describe(opened)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            paths = _write(engine, opened, document, target_series_key, out)
        except OSError as error:
            raise EnvironmentFault(
                "export.unwritable",
                f"The files cannot be written ({error.strerror or type(error).__name__}).",
                "Choose a folder that may be written and has room.",
            ) from error
        engine.record(
            AuditCode.EXPORT,
            action="R",
            object_kind="study",
            object_ref=find_object(engine, reference)[0].study_uid,
            n_objects=1,
            detail={"kind": opened.header.kind.value, "files": len(paths)},
        )
        document["files"] = [str(path) for path in paths]
    return document


def header_document(header: DerivedHeader) -> dict[str, Any]:
    """Return what an object says of itself."""
    return {
        "kind": header.kind.value,
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "series_uid": header.series_uid,
        "study_uid": header.study_uid,
        "label": header.label,
        "description": header.description,
        "maker": header.maker,
        "created": header.created,
        "source_series": list(header.source_series),
        "frame_of_reference_uid": header.frame_of_reference_uid,
        "issues": [{"code": i.code, "message": i.message} for i in header.issues],
    }


def _describe(opened: DerivedObject) -> dict[str, Any]:
    match opened:
        case DerivedSegmentation():
            return _segmentation(opened)
        case StructureContours():
            return _structures(opened)
        case StructuredReport():
            return _report(opened)
        case PresentationState():
            return _presentation(opened)
        case KeyObjects():
            return {
                "title": opened.title,
                "text": opened.description,
                "images": [_image(image) for image in opened.images],
            }
        case ParametricMap():
            return _map(opened)
        case Document():
            return {"title": opened.title, "media_type": opened.media_type, "pages": opened.pages}


def _segmentation(opened: DerivedSegmentation) -> dict[str, Any]:
    layers = []
    for layer in opened.layers:
        counts, sums = _moments(layer.labels, max((s.value for s in layer.segments), default=0) + 1)
        segments = []
        for segment in layer.segments:
            voxels = int(counts[segment.value])
            centroid = layer.geometry.lps_of([sums[segment.value] / voxels])[0].tolist() if voxels else None
            segments.append(
                {
                    "value": segment.value,
                    "label": segment.label,
                    "code": segment.code.as_dict(),
                    "category": segment.category.as_dict(),
                    "anatomic_region": segment.anatomic_region.as_dict() if segment.anatomic_region else None,
                    "color_rgb": list(segment.color_rgb),
                    "voxels": voxels,
                    "volume_ml": voxels * layer.geometry.voxel_volume_ml,
                    "centroid_lps_mm": centroid,
                }
            )
        layers.append({"segments": segments})
    return {
        "grid": _grid(opened.layers[0].geometry),
        "layers": layers,
        "fractional": [
            {"value": f.definition.value, "label": f.definition.label, "meaning": f.meaning}
            for f in opened.fractional
        ],
        "outside_voxels": opened.outside_voxels,
    }


def _moments(labels: NDArray, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return voxels by label ``(N,)`` and the sums of their (i, j, k) ``(N, 3)``, slice by slice."""
    counts, sums = np.zeros(size), np.zeros((size, 3))
    for k, plane in enumerate(labels):
        rows, columns = np.nonzero(plane)
        if not len(rows):
            continue
        values = plane[rows, columns]
        here = np.bincount(values, minlength=size)
        counts += here
        sums[:, 0] += np.bincount(values, columns, minlength=size)
        sums[:, 1] += np.bincount(values, rows, minlength=size)
        sums[:, 2] += k * here
    return counts, sums


def _structures(opened: StructureContours) -> dict[str, Any]:
    return {
        "structures": [
            {
                "number": region.number,
                "name": region.name,
                "type": region.interpreted_type,
                "color_rgb": list(region.color_rgb),
                "contours": len(region.contours),
                "points": sum(len(c.points_lps_mm) for c in region.contours),
            }
            for region in opened.regions
        ]
    }


def _report(opened: StructuredReport) -> dict[str, Any]:
    return {
        "title": opened.title,
        "template": opened.template,
        "complete": opened.complete,
        "verified": opened.verified,
        "measurements": [
            {
                "name": m.name,
                "value": m.value,
                "unit": m.unit,
                "site": m.site,
                "tracking_id": m.tracking_id,
                "finding": m.finding,
                "places": [_place(place) for place in m.places],
            }
            for m in opened.measurements
        ],
        "items": [
            {
                "depth": item.depth,
                "type": item.value_type,
                "name": item.name,
                "value": item.value,
                "unit": item.unit,
                "places": [_place(place) for place in item.places],
                "images": [_image(image) for image in item.images],
            }
            for item in opened.items
        ],
    }


def _presentation(opened: PresentationState) -> dict[str, Any]:
    return {
        "images": [_image(image) for image in opened.images],
        "windows": {
            uid: {"center": window.center, "width": window.width, "name": window.name}
            for uid, window in opened.windows.items()
        },
        "inverted": opened.inverted,
        "rotation_deg": opened.rotation_deg,
        "flipped": opened.flipped,
        "displayed_areas": {uid: list(area) for uid, area in opened.displayed_areas.items()},
        "unsupported": list(opened.unsupported),
        "annotations": [
            {
                "image": _image(a.image),
                "shape": a.shape,
                "points_ij": a.points_ij,
                "text": a.text,
                "filled": a.filled,
                "layer": a.layer,
            }
            for a in opened.annotations
        ],
    }


def _map(opened: ParametricMap) -> dict[str, Any]:
    finite = opened.values[np.isfinite(opened.values)]
    return {
        "quantity": opened.quantity,
        "unit": opened.unit,
        "grid": _grid(opened.geometry),
        "min": float(finite.min()) if finite.size else None,
        "max": float(finite.max()) if finite.size else None,
    }


def _grid(geometry: VolumeGeometry) -> dict[str, Any]:
    return {
        "shape_kji": list(geometry.shape_kji),
        "spacing_mm": list(geometry.spacing_ijk_mm),
        "lps_from_ijk": geometry.lps_from_ijk.tolist(),
    }


def _image(image: SourceImage) -> dict[str, Any]:
    return {"sop_instance_uid": image.sop_instance_uid, "frames": list(image.frames)}


def _place(place: ReportPlace) -> dict[str, Any]:
    return {
        "shape": place.shape,
        "points_lps_mm": place.points_lps_mm,
        "image": _image(place.image) if place.image is not None else None,
        "points_ij": place.points_ij,
    }


def _write(
    engine: Engine, opened: DerivedObject, document: dict[str, Any], target_series_key: str | None, out: Path
) -> list[Path]:
    match opened:
        case DerivedSegmentation():
            return _write_layers(opened, out, "segmentation")
        case StructureContours():
            keys = [target_series_key] if target_series_key else [*opened.header.source_series]
            return _write_layers(
                contours_as_segmentation(opened, _first_grid(engine, keys)), out, "structures"
            )
        case ParametricMap():
            return [
                write_nifti(out / "map.nii.gz", opened.geometry, opened.values, description="parametric map")
            ]
        case Document():
            return _write_pages(engine, opened, out)
        case _:
            return [_write_json(out / f"{opened.header.kind.value}.json", document)]


def _write_layers(opened: DerivedSegmentation, out: Path, name: str) -> list[Path]:
    paths = []
    for n, layer in enumerate(opened.layers, start=1):
        path = out / (f"{name}.nii.gz" if len(opened.layers) == 1 else f"{name}-layer{n}.nii.gz")
        paths.append(
            write_nifti(path, layer.geometry, layer.labels, description="segmentation", intent_label=True)
        )
    for fractional in opened.fractional:
        path = out / f"{name}-fraction{fractional.definition.value}.nii.gz"
        paths.append(
            write_nifti(path, opened.layers[0].geometry, fractional.fraction, description=fractional.meaning)
        )
    paths.append(_write_json(out / f"{name}.json", _segmentation(opened)))
    return paths


def _first_grid(engine: Engine, series_keys: list[str]) -> VolumeGeometry:
    """Return the grid of the first series that the library has."""
    for key in series_keys:
        with engine.unit_of_work(writes=False) as uow:
            known = uow.series.get(key) is not None
        if known:
            return grid_of(engine, key).geometry
    raise InputError(
        "derived.source_missing",
        "The images that the structures were drawn on are not in the library.",
        "Import them, or name a series with --over.",
    )


def _write_pages(engine: Engine, opened: Document, out: Path) -> list[Path]:
    from PIL import Image

    paths = []
    for page in range(min(opened.pages, _MOST_PAGES)):
        picture = render_page(engine, opened.header.sop_instance_uid, page, PAGE_WIDTH_PX)
        path = out / f"page-{page + 1:03}.png"
        with atomic_path(path) as part:
            Image.fromarray(picture).save(part, "PNG")
        paths.append(path)
    return paths


def _write_json(path: Path, document: dict[str, Any]) -> Path:
    with atomic_path(path) as part:
        part.write_text(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False), encoding="utf-8")
    return path
