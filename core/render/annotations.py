"""The words on a viewport: corner texts, badges, messages. Pure text, drawn by whoever has a font."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.domain.explanation import Explanation
from core.domain.volume import SeriesIssue, Volume
from core.domain.window import Window
from core.render.planes import Plane, PlaneGrid

_PROJECTION = {"CR", "DX", "MG", "RG", "RF", "XA", "IO", "PX"}
_LONGEST_DESCRIPTION = 42


@dataclass(frozen=True)
class Badge:
    """A short mark with its explanation. ``tone`` is ``"caution"`` or ``"quiet"``."""

    text: str
    why: str
    tone: str = "caution"


@dataclass(frozen=True)
class CornerTexts:
    """At most four texts; lines are separated by newlines."""

    top_left: str = ""
    top_right: str = ""
    bottom_left: str = ""
    bottom_right: str = ""


def number_text(grid: PlaneGrid, number: int) -> str:
    """``im 132/227`` with the patient coordinate through the plane, where there is one."""
    text = f"im {number + 1}/{grid.count}"
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
    return f"{text}  {positive if value >= 0 else negative} {abs(value):.1f} mm"


def window_text(window: Window, inverted: bool = False) -> str:
    """``W 1500  L -600  Lung``; the minus sign is the typographic one."""

    def number(value: float) -> str:
        return f"{value:.3g}" if abs(value) < 10 and value != int(value) else f"{value:.0f}"

    text = f"W {number(window.width)}  L {number(window.center).replace('-', '−')}"
    if window.name:
        text += f"  {window.name}"
    return text + ("  inverted" if inverted else "")


def corner_texts(
    volume: Volume, grid: PlaneGrid, number: int, window: Window | None, inverted: bool = False
) -> CornerTexts:
    """Words for one viewport: plane, series and modality; slice; window. Top right is left to badges."""
    title = volume.modality if grid.plane is Plane.IMAGE else grid.plane.value.upper()
    description = shortened(volume.description)
    second = "  ".join(part for part in (volume.modality, description) if part)
    if grid.plane is Plane.IMAGE:
        second = description
    return CornerTexts(
        top_left="\n".join(line for line in (title, second) if line),
        bottom_left=window_text(window, inverted) if window is not None else "",
        bottom_right=number_text(grid, number),
    )


def shortened(text: str, longest: int = _LONGEST_DESCRIPTION) -> str:
    """Cut a long description with an ellipsis, on one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= longest else flat[: longest - 1].rstrip() + "…"


def value_text(volume: Volume, value: float | np.ndarray) -> str:
    """A voxel's value with its unit, as shown under the cursor."""
    if isinstance(value, np.ndarray) and value.ndim:
        return "RGB " + " ".join(str(int(v)) for v in value)
    number = float(value)
    text = f"{number:.0f}" if number == int(number) else f"{number:.4g}"
    unit = {"HU": " HU", "SUVbw": " SUV"}.get(volume.units, "")
    return text.replace("-", "−") + unit


def badges(volume: Volume) -> tuple[Badge, ...]:
    """Everything about the pixels and the geometry that the reader must know."""
    found = [_issue_badge(issue) for issue in volume.issues]
    if volume.lossy and not any(b.text == "lossy" for b in found):
        found.append(Badge("lossy", "The pixels were compressed with loss."))
    if volume.extra.get("resampled"):
        found.append(Badge("resampled", volume.extra["resampled"]))
    if is_uncalibrated(volume) and not any(b.text == "uncalibrated" for b in found):
        found.append(Badge("uncalibrated", "The pixel size is unknown: distances are not shown."))
    unique: dict[str, Badge] = {}
    for badge in found:
        known = unique.get(badge.text)
        unique[badge.text] = (
            badge if known is None else Badge(badge.text, f"{known.why}\n{badge.why}", badge.tone)
        )
    return tuple(unique.values())


def is_uncalibrated(volume: Volume) -> bool:
    """Whether a millimetre on the picture means nothing."""
    return any(
        "calibrat" in i.code or "spacing_missing" in i.code or "spacing-missing" in i.code
        for i in volume.issues
    )


def is_flat(volume: Volume) -> bool:
    """Whether the series is a projection or photograph, without cross-sections."""
    if volume.voxels.ndim == 4 or volume.modality in _PROJECTION:
        return True
    return volume.geometry.shape_kji[0] == 1 and volume.geometry.frame_of_reference_uid is None


def heat_note(explanation: Explanation) -> str:
    """What stands beside a heat map: method, class, resolution and the outcome of the sanity check."""
    size = max(explanation.resolution_mm)
    note = f"{explanation.method} · {explanation.class_label} · cells of {size:.0f} mm, not an outline"
    if explanation.sanity_passed is False:
        note += " · failed the randomisation check"
    return note


def _issue_badge(issue: SeriesIssue) -> Badge:
    code = issue.code.lower()
    for needle, text in (
        ("lossy", "lossy"),
        ("calibrat", "uncalibrated"),
        ("spacing_missing", "uncalibrated"),
        ("resampl", "resampled"),
        ("tilt", "tilt"),
        ("gap", "gap"),
        ("duplicate", "duplicate slices"),
        ("missing", "slices missing"),
    ):
        if needle in code:
            return Badge(text, issue.message)
    return Badge(
        "geometry" if issue.blocks_volumetry else "note",
        issue.message,
        "caution" if issue.blocks_volumetry else "quiet",
    )
