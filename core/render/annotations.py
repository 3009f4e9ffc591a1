"""The words on a viewport: corner texts, badges, messages. Pure text, drawn by whoever has a font."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.domain.explanation import Explanation
from core.domain.volume import SeriesIssue, Volume
from core.domain.window import Window
from core.render.planes import Plane, PlaneGrid

_PROJECTION = {"CR", "DX", "MG", "RG", "RF", "XA", "IO", "PX"}
# Modalities whose single images are projections or photographs, whatever position they state.
_PLANAR = {"NM", "US", "OT", "XC", "ES", "OP", "SM", "GM"}
_LONGEST_DESCRIPTION = 42
_UNCALIBRATED = {"geometry.uncalibrated", "geometry.no_spacing"}
_NO_POSITION = {"geometry.no_position", "dicom.mosaic"}
METHOD_TITLES = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "Layer-CAM",
    "ig": "Integrated gradients",
    "occlusion": "Occlusion",
}
_QUIET_BADGES = {"geometry.frame_of_reference_varies": "frame UIDs vary"}
# Found with voxels that were not put onto a regular grid: cuts across the slices would show wrong lengths.
_UNEVEN = {"geometry.gap", "geometry.irregular_spacing"}
_NOT_ONE_STACK = {"geometry.misaligned", "geometry.mixed_frame_of_reference"}
_PET_UNITS = {"BQML": " Bq/ml", "CNTS": " counts"}
_RESAMPLED = {"geometry.resampled", "geometry.shear_corrected", "geometry.regridded"}
_ISSUE_BADGES = {
    "dicom.incomplete_series": "incomplete",
    "dicom.mixed_patients": "mixed patients",
    "dicom.mosaic": "mosaic",
    "geometry.duplicate_position": "duplicate slices",
    "geometry.gap": "gap",
    "geometry.irregular_spacing": "irregular spacing",
    "geometry.misaligned": "misaligned slices",
    "geometry.mixed_frame_of_reference": "mixed frames",
    "geometry.no_position": "no position",
    "geometry.no_spacing": "uncalibrated",
    "geometry.shear_corrected": "resampled",
    "geometry.tilt": "tilt",
    "geometry.uncalibrated": "uncalibrated",
    "geometry.missing_slices": "slices missing",
    "geometry.resampled": "resampled",
    "pet.no_suv": "no SUV",
    "nifti.no_orientation": "orientation unknown",
    "nifti.two_orientations": "two orientations",
}


@dataclass(frozen=True)
class Badge:
    """A short mark with its explanation. ``tone`` is ``"caution"`` or ``"quiet"``."""

    text: str
    why: str
    tone: str = "caution"


@dataclass(frozen=True)
class CornerTexts:
    """At most four texts; lines are separated by newlines. ``marker`` is side and view of a projection."""

    top_left: str = ""
    top_right: str = ""
    bottom_left: str = ""
    bottom_right: str = ""
    marker: str = ""


def number_text(grid: PlaneGrid, number: int, unit: str = "im") -> str:
    """``im 132/227`` under the patient coordinate through the plane, where there is one."""
    text = f"{unit} {number + 1}/{grid.count}"
    if grid.plane is Plane.IMAGE:
        return text if grid.count > 1 else ""
    ijk = grid.ijk_of((grid.columns - 1) / 2, (grid.rows - 1) / 2, number)
    point = grid.geometry.lps_of([ijk])[0]
    axis, positive, negative = {
        Plane.AXIAL: (2, "S", "I"),
        Plane.CORONAL: (1, "P", "A"),
        Plane.SAGITTAL: (0, "L", "R"),
    }[grid.plane]
    value = float(point[axis])
    return f"{positive if value >= 0 else negative} {abs(value):.1f} mm\n{text}"


def time_text(volume: Volume, dimension: str = "") -> str:
    """``t 2/3`` of a 4-D series, with what is counted when it isn't time; empty for other series."""
    if volume.time_points < 2:
        return ""
    text = f"t {volume.time_point + 1}/{volume.time_points}"
    return text if dimension in ("", "time", "time point") else f"{dimension}  {text}"


def frame_text(volume: Volume, grid: PlaneGrid, number: int) -> str:
    """``fr 3/10  0.20 s`` of a cine, else what ``number_text`` says."""
    times = volume.frame_times_ms
    if grid.plane is not Plane.IMAGE or len(times) != grid.count or grid.count < 2:
        return number_text(grid, number)
    return f"{number_text(grid, number, 'fr')}  {times[grid.array_index(number)] / 1000:.2f} s"


def window_text(window: Window, inverted: bool = False, suvbw_factor: float | None = None) -> str:
    """``W 1500  L −600`` under the preset's name; the minus sign is the typographic one.

    With the factor to SUV the ends of the window are given: ``SUVbw 0 – 6``.
    """

    def number(value: float) -> str:
        return f"{value:.3g}" if abs(value) < 10 and value != int(value) else f"{value:.0f}"

    if suvbw_factor is not None:
        low, high = (
            round((window.center + side * window.width / 2) * suvbw_factor, 2) + 0.0 for side in (-1, 1)
        )
        text = f"SUVbw {number(low).replace('-', '−')} – {number(high)}"
        name = "" if window.name.startswith("SUV") else window.name
    else:
        text = f"W {number(window.width)}  L {number(window.center).replace('-', '−')}"
        name = window.name
    above = "  ".join(part for part in (name, "inverted" if inverted else "") if part)
    return f"{above}\n{text}" if above else text


def corner_texts(
    volume: Volume,
    grid: PlaneGrid,
    number: int,
    window: Window | None,
    inverted: bool = False,
    view: str = "",
    dimension: str = "",
    description: str | None = None,
) -> CornerTexts:
    """Words for one viewport: plane, series and modality; slice and time; window. Top right is left to badges.

    ``description`` stands in place of the volume's own where that must not be shown.
    """
    title = volume.modality if grid.plane is Plane.IMAGE else grid.plane.value.upper()
    description = shortened((volume.description if description is None else description) or volume.body_part)
    second = "  ".join(part for part in (volume.modality, description) if part)
    if grid.plane is Plane.IMAGE:
        second = description
    factor = volume.suvbw_factor if volume.units != "SUVbw" else 1.0
    where = (time_text(volume, dimension), frame_text(volume, grid, number))
    return CornerTexts(
        top_left="\n".join(line for line in (title, second) if line),
        bottom_left=window_text(window, inverted, factor) if window is not None else "",
        bottom_right="\n".join(line for line in where if line),
        marker=view or volume.extra.get("view", ""),
    )


def shortened(text: str, longest: int = _LONGEST_DESCRIPTION) -> str:
    """Cut a long description with an ellipsis, on one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= longest else flat[: longest - 1].rstrip() + "…"


def value_text(volume: Volume, value: float | np.ndarray) -> str:
    """A voxel's value with its unit, as shown under the cursor; PET with its SUV where that is known."""
    if isinstance(value, np.ndarray) and value.ndim:
        return "RGB " + " ".join(str(int(v)) for v in value)
    number = float(value)
    if not np.isfinite(number):
        return "no value"
    text = f"{number:.0f}" if number == int(number) else f"{number:.4g}"
    stated = volume.extra.get("pet_units", "").upper()
    unit = {"HU": " HU", "Bq/ml": " Bq/ml"}.get(volume.units, _PET_UNITS.get(stated, ""))
    if unit == " Bq/ml":
        text = f"{number:.0f}"
    if volume.units == "SUVbw" or (stated == "GML" and volume.suvbw_factor is not None):
        text, unit = f"SUVbw {number:.2f}", ""
    elif volume.suvbw_factor is not None:
        unit += f"  SUVbw {number * volume.suvbw_factor:.2f}"
    return f"{text}{unit}".replace("-", "−")


def slice_kind(volume: Volume, k: int) -> str:
    """``"missing"`` for a slice that was never found, ``"interpolated"`` for one between acquired ones, else ``""``."""
    if k in volume.missing_slices:
        return "missing"
    uids = volume.sop_instance_uids
    return "interpolated" if any(uids) and k < len(uids) and not uids[k] else ""


def cut_fault(volume: Volume) -> str:
    """Why cuts across the slices would be wrong; empty when they are right."""
    if volume.geometry.is_sheared:
        return "The slices are tilted against their stack and were not straightened."
    codes = {issue.code for issue in volume.issues}
    resampled = bool(codes & _RESAMPLED) or bool(volume.extra.get("resampled")) or bool(volume.missing_slices)
    for issue in volume.issues:
        if issue.code in _NOT_ONE_STACK or (issue.code in _UNEVEN and not resampled):
            return issue.message
    return ""


def badges(volume: Volume) -> tuple[Badge, ...]:
    """Everything about the pixels and the geometry that the reader must know, cautions first."""
    found = [_issue_badge(issue) for issue in volume.issues]
    if volume.lossy:
        found.append(Badge("lossy", "The pixels were compressed with loss."))
    if volume.extra.get("resampled"):
        found.append(Badge("resampled", volume.extra["resampled"]))
    merged: dict[str, Badge] = {}
    for badge in found:
        known = merged.get(badge.text)
        why = badge.why if known is None else f"{known.why} {badge.why}"
        merged[badge.text] = Badge(badge.text, why, badge.tone)
    return tuple(sorted(merged.values(), key=lambda badge: badge.tone != "caution"))


def is_uncalibrated(volume: Volume) -> bool:
    """Whether a millimetre on the picture means nothing."""
    return any(issue.code in _UNCALIBRATED for issue in volume.issues)


def is_flat(volume: Volume) -> bool:
    """Whether the series is a projection, photograph or cine, without cross-sections."""
    if volume.voxels.ndim == 4 or volume.modality in _PROJECTION:
        return True
    if any(issue.code in _NO_POSITION for issue in volume.issues):
        return True
    if volume.geometry.shape_kji[0] > 1:
        return False
    return volume.modality in _PLANAR or volume.geometry.frame_of_reference_uid is None


def heat_note(explanation: Explanation) -> str:
    """What stands beside a heat map: method, class, resolution and the outcome of the sanity check."""
    size = max(explanation.resolution_mm)
    method = METHOD_TITLES.get(explanation.method, explanation.method)
    note = f"{method} · {explanation.class_label} · cells of {size:.0f} mm, not an outline"
    if explanation.sanity_passed is False:
        note += " · failed the randomisation check"
    return note


def _issue_badge(issue: SeriesIssue) -> Badge:
    text = _ISSUE_BADGES.get(issue.code)
    if text is not None:
        return Badge(text, issue.message)
    if issue.blocks_volumetry:
        return Badge("geometry", issue.message)
    return Badge(_QUIET_BADGES.get(issue.code, "note"), issue.message, "quiet")
