"""Draw a series as the viewer shows it, without a screen."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from core.config.atomic import atomic_path
from core.domain.errors import InputError
from core.domain.explanation import Explanation
from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.compose import Panel, compose_viewport, write_text
from core.render.grey import is_colour
from core.render.palette import safe_colors
from core.render.planes import Plane
from core.render.presets import INVERTED_AT_FIRST, initial_window
from core.render.scene import AxisMark, Scene, Viewpoint, axis_marks
from core.render.scene_presets import SEGMENTS_ONLY, default_preset
from core.render.series import DisplaySeries, require_same_grid
from core.render.style import PageStyle, page_style
from core.services.engine import Engine
from core.services.list_studies import get_series
from core.services.load_volume import load_volume
from core.services.results import load_explanations, load_result, load_segmentation

LAYOUTS = ("stack", "mpr", "3d")
_GAP_PX = 2


@dataclass(frozen=True, eq=False)
class _Subject:
    """All that a picture is made of."""

    series: DisplaySeries
    index: int
    window: Window
    segmentation: Segmentation | None
    explanation: Explanation | None

    @property
    def volume(self) -> Volume:
        return self.series.volume


def render(
    engine: Engine,
    series_key: str,
    *,
    layout: str = "stack",
    slice: int | None = None,
    window: Window | None = None,
    result_id: str | None = None,
    heatmap: str | None = None,
    time_point: int = 0,
    size: tuple[int, int] = (1280, 960),
    out: Path,
) -> dict[str, Any]:
    """Write a PNG of a series.

    Parameters
    ----------
    layout : str
        ``"stack"`` (the acquired plane), ``"mpr"`` (three linked planes) or ``"3d"``. A series without
        cross-sections has ``"stack"`` only.
    slice : int, optional
        Index along the stack as in the volume's array (k, from 0); the middle by default. With a result or
        a heat map and no slice, the slice that shows most of it is chosen.
    result_id : str, optional
        Result whose segments are drawn.
    heatmap : str, optional
        ``METHOD:CLASS`` of a stored explanation of the result.
    time_point : int
        Of a 4-D series, from 0.
    size : tuple of int
        Width and height in pixels.

    Returns
    -------
    dict
        ``file``, ``layout``, ``size``, ``slice`` (k), ``image_number`` (as written on the picture),
        ``window``, ``seconds``.

    Raises
    ------
    InputError
        For an unknown layout, slice, result or heat map.
    SafetyError
        When the result lies on another voxel grid than the series.
    EnvironmentFault
        When the 3-D renderer is missing or the file can't be written.
    """
    started = time.monotonic()
    if layout not in LAYOUTS:
        raise InputError(
            "render.layout", f"There is no layout {layout!r}.", f"Choose one of {', '.join(LAYOUTS)}."
        )
    subject = _subject(engine, series_key, slice, window, result_id, heatmap, time_point)
    if len(subject.series.planes) == 1 and layout != "stack":
        raise InputError(
            "render.flat",
            f"The series has no layout {layout!r}. {subject.series.single_plane_reason}",
            "Use the layout stack.",
        )
    image = {"stack": _stack, "mpr": _mpr, "3d": _scene}[layout](subject, size)
    with atomic_path(out) as temporary:
        image.save(temporary, format="PNG")
    native = subject.series.grids[subject.series.native]
    return {
        "file": str(out),
        "layout": layout,
        "size": list(size),
        "slice": subject.index,
        "image_number": native.number_of_array_index(subject.index) + 1,
        "window": [subject.window.center, subject.window.width],
        "seconds": round(time.monotonic() - started, 3),
    }


def _subject(
    engine: Engine,
    series_key: str,
    index: int | None,
    window: Window | None,
    result_id: str | None,
    heatmap: str | None,
    time_point: int,
) -> _Subject:
    volume = load_volume(engine, series_key, time_point=time_point)
    segmentation = explanation = None
    if result_id is not None:
        _require_result_of_series(engine, series_key, result_id)
        segmentation = load_segmentation(engine, result_id)
    if segmentation is not None:
        require_same_grid(volume.geometry, segmentation.geometry, "segmentation")
    if heatmap is not None:
        explanation = _explanation(engine, result_id, heatmap)
        require_same_grid(volume.geometry, explanation.geometry, "heat map")
    count = volume.geometry.shape_kji[0]
    if index is None:
        index = _telling_slice(volume, segmentation, explanation)
    if not 0 <= index < count:
        raise InputError(
            "render.slice", f"There is no slice {index}: the series has {count}.", f"Choose 0 to {count - 1}."
        )
    chosen = window or (Window(128, 256) if is_colour(volume) else initial_window(volume))
    return _Subject(DisplaySeries(volume), index, chosen, segmentation, explanation)


def _require_result_of_series(engine: Engine, series_key: str, result_id: str) -> None:
    summary, _ = get_series(engine, series_key)
    result = load_result(engine, result_id)
    if result.series_uid not in (summary.series_uid, summary.key):
        raise InputError(
            "render.other-series",
            "The result belongs to another series.",
            "Give the series that the model ran on.",
        )


def _explanation(engine: Engine, result_id: str | None, heatmap: str) -> Explanation:
    method, _, label = heatmap.partition(":")
    if result_id is None:
        raise InputError(
            "render.no-result", "A heat map needs the result that it explains.", "Add --result ID."
        )
    known = load_explanations(engine, result_id)
    for explanation in reversed(known):
        if explanation.method.lower() == method.lower() and label in ("", explanation.class_label):
            return explanation
    stored = ", ".join(f"{e.method}:{e.class_label}" for e in known) or "none"
    raise InputError(
        "render.no-heatmap",
        f"The result has no heat map {heatmap!r} (stored: {stored}).",
        "Run `overread explain` first.",
    )


def _telling_slice(volume: Volume, segmentation: Segmentation | None, explanation: Explanation | None) -> int:
    """The hottest slice, else the middle one of those with most segments, else the middle."""
    if explanation is not None and explanation.heat.max() > 0:
        return int(explanation.heat.reshape(explanation.heat.shape[0], -1).max(axis=1).argmax())
    if segmentation is not None and segmentation.labels.any():
        present = [(segmentation.labels == s.value).any(axis=(1, 2)) for s in segmentation.segments]
        kinds = np.sum(present, axis=0)
        best = np.flatnonzero(kinds == kinds.max())
        return int(best[len(best) // 2])
    return volume.geometry.shape_kji[0] // 2


def _panel(subject: _Subject, plane: Plane) -> Panel:
    cursor = _cursor(subject)
    column, row, number = subject.series.grids[plane].position_of(cursor)
    segmentation = subject.segmentation
    return Panel(
        subject.series,
        plane,
        round(number),
        subject.window,
        inverted=subject.volume.inverted != (subject.volume.modality in INVERTED_AT_FIRST),
        segmentation=segmentation,
        colors=safe_colors(segmentation.segments) if segmentation is not None else {},
        explanation=subject.explanation,
        crosshair=(column, row),
    )


def _cursor(subject: _Subject) -> tuple[int, int, int]:
    """Where the planes meet: the hottest voxel of the slice, else the middle of it."""
    i, j, _ = subject.series.center_ijk()
    if subject.explanation is not None:
        heat = subject.explanation.heat[subject.index]
        if heat.max() > 0:
            j, i = (int(n) for n in divmod(int(heat.argmax()), heat.shape[1]))
    return i, j, subject.index


def _stack(subject: _Subject, size: tuple[int, int]) -> Image.Image:
    return compose_viewport(_panel(subject, subject.series.native), size, page_style(size))


def _mpr(subject: _Subject, size: tuple[int, int]) -> Image.Image:
    """Axial at two thirds of the width, coronal above sagittal beside it, as in the window."""
    style = page_style(size)
    page = Image.new("RGB", size, style.color("line"))
    left = (size[0] - _GAP_PX) * 2 // 3
    right, upper = size[0] - _GAP_PX - left, (size[1] - _GAP_PX) // 2
    boxes = {
        Plane.AXIAL: (0, 0, left, size[1]),
        Plane.CORONAL: (left + _GAP_PX, 0, right, upper),
        Plane.SAGITTAL: (left + _GAP_PX, upper + _GAP_PX, right, size[1] - _GAP_PX - upper),
    }
    by_axis = {grid.through.array_axis: plane for plane, grid in subject.series.grids.items()}
    for plane, (x, y, width, height) in boxes.items():
        grid = subject.series.grids[plane]
        lines = (by_axis[grid.across.array_axis], by_axis[grid.down.array_axis])
        panel = replace(_panel(subject, plane), crosshair_planes=lines)
        page.paste(compose_viewport(panel, (width, height), style), (x, y))
    return page


def _scene(subject: _Subject, size: tuple[int, int]) -> Image.Image:
    style, view = page_style(size), Viewpoint()
    scene = Scene(style.color("picture"))
    try:
        scene.set_volume(subject.volume)
        if subject.segmentation is not None:
            scene.set_segments(subject.segmentation, safe_colors(subject.segmentation.segments))
            scene.set_preset(SEGMENTS_ONLY)
        else:
            scene.set_preset(default_preset(subject.volume))
        image = Image.fromarray(scene.render(view, size))
    finally:
        scene.close()
    draw = ImageDraw.Draw(image, "RGBA")
    write_text(draw, (style.px(12), style.px(12)), "3-D", style, size=11, color="text_dim")
    for mark in axis_marks(view):
        _draw_mark(draw, mark, size, style)
    return image


def _draw_mark(draw: ImageDraw.ImageDraw, mark: AxisMark, size: tuple[int, int], style: PageStyle) -> None:
    radius = style.px(26)
    x, y = size[0] - style.px(46), size[1] - style.px(46)
    tip = (x + mark.x * radius, y + mark.y * radius)
    near = mark.toward_eye >= -0.05
    draw.line(
        (x, y, *tip), fill=(*style.color("overlay_text"), 200 if near else 70), width=max(1, style.px(1.2))
    )
    at = (tip[0] + mark.x * style.px(8), tip[1] + mark.y * style.px(8))
    color = "overlay_text" if near else "text_disabled"
    write_text(draw, at, mark.letter, style, anchor="mm", size=11, color=color)
