"""A viewport as a picture: the same pixels, letters and words as on the screen, drawn with pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core.domain.explanation import Explanation
from core.domain.segmentation import Segmentation
from core.domain.window import Window
from core.render.annotations import badges, corner_texts, heat_note, is_uncalibrated, slice_kind
from core.render.grey import is_colour, window_picture
from core.render.heat import HeatStyle, color_ramp, draw_heat
from core.render.overlay import OverlayStyle, draw_labels
from core.render.palette import Rgb
from core.render.placement import Camera, Placement, place, scale_bar
from core.render.planes import Plane, PlaneGrid
from core.render.series import DisplaySeries
from core.render.style import PageStyle

_WHOLE = Camera()
_OUTLINES = OverlayStyle()
_HEAT = HeatStyle()


@dataclass(frozen=True, eq=False)
class Panel:
    """What one viewport shows."""

    series: DisplaySeries
    plane: Plane
    number: int
    window: Window
    inverted: bool = False
    segmentation: Segmentation | None = None
    colors: Mapping[int, Rgb] = field(default_factory=dict)
    overlay: OverlayStyle = _OUTLINES
    hidden: frozenset[int] = frozenset()
    explanation: Explanation | None = None
    heat: HeatStyle = _HEAT
    crosshair: tuple[float, float] | None = None
    crosshair_planes: tuple[Plane, Plane] | None = None
    camera: Camera = _WHOLE
    annotated: bool = True

    @property
    def grid(self) -> PlaneGrid:
        """Grid of the plane shown."""
        return self.series.grids[self.plane]


def compose_viewport(panel: Panel, size: tuple[int, int], style: PageStyle) -> Image.Image:
    """Draw one viewport of ``size`` (width, height) pixels."""
    placement = place(panel.grid, size, panel.camera)
    image = _base(panel, placement, size, style)
    draw = ImageDraw.Draw(image, "RGBA")
    if panel.crosshair is not None and panel.crosshair_planes is not None:
        _crosshair(draw, panel, placement, size, style)
    if panel.grid.through.array_axis == 0:
        _slice_kind(draw, panel, placement, size, style)
    _letters(draw, panel.grid, size, style)
    _scale_bar(draw, panel, placement, size, style)
    if panel.annotated:
        _corners(draw, panel, size, style)
    if panel.explanation is not None:
        _legend(image, draw, panel.heat, size, style)
    _badges(draw, panel, size, style)
    draw.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=(*style.plane_color(panel.plane), 200))
    return image


def _slice_kind(
    draw: ImageDraw.ImageDraw, panel: Panel, placement: Placement, size: tuple[int, int], style: PageStyle
) -> None:
    """Say on the picture that its slice is missing or was interpolated."""
    kind = slice_kind(panel.series.volume, panel.grid.array_index(panel.number))
    if not kind:
        return
    words = "Slice missing" if kind == "missing" else "interpolated"
    middle = (placement.left + placement.width / 2, placement.top + placement.height / 2)
    at = middle if kind == "missing" else (size[0] / 2, size[1] - _margin(style) - style.px(24))
    write_text(draw, at, words, style, anchor="mm", size=15, color="caution", bold=True)


def write_text(
    draw: ImageDraw.ImageDraw,
    position: tuple[float, float],
    text: str,
    style: PageStyle,
    anchor: str = "la",
    size: float = 13,
    color: str | Rgb = "overlay_text",
    bold: bool = False,
) -> None:
    """Write outlined text; ``anchor`` is pillow's, multi-line text included."""
    if not text:
        return
    font = style.font(size, bold)
    fill = style.color(color) if isinstance(color, str) else color
    lines = text.split("\n")
    x, y = position
    step = font.getbbox("Ag")[3] + style.px(3)
    if anchor[1] == "d":
        y -= step * (len(lines) - 1)
    for line in lines:
        stroke = max(1, style.px(1))
        shadow = style.color("overlay_shadow")
        draw.text((x, y), line, font=font, fill=fill, anchor=anchor, stroke_width=stroke, stroke_fill=shadow)
        y += step


def _base(panel: Panel, placement: Placement, size: tuple[int, int], style: PageStyle) -> Image.Image:
    back = style.color("picture")
    image = Image.new("RGB", size, back)
    picture = _to_image(
        window_picture(panel.series.values(panel.plane, panel.number), panel.window, panel.inverted)
    )
    covered = Image.new("L", picture.size, 255)
    image.paste(_scaled(picture, placement, size), (0, 0), _scaled(covered, placement, size))
    if panel.explanation is not None:
        heat = draw_heat(
            np.ascontiguousarray(panel.grid.extract(panel.explanation.heat, panel.number)), panel.heat
        )
        image = _over(image, np.asarray(_scaled(_to_image(heat, alpha=True), placement, size)))
    if panel.segmentation is not None:
        labels = panel.grid.extract(panel.segmentation.labels, panel.number)
        patch = draw_labels(labels, placement, size, panel.colors, panel.overlay, panel.hidden)
        if patch is not None:
            layer = np.zeros((size[1], size[0], 4), dtype=np.uint8)
            rows, columns = patch.pixels.shape
            layer[patch.y : patch.y + rows, patch.x : patch.x + columns] = _bytes(patch.pixels)
            image = _over(image, layer)
    return image


def _bytes(screen: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """``(rows, columns, 4)`` RGBA of screen pixels, still premultiplied."""
    shifts = np.array([16, 8, 0, 24], dtype=np.uint32)
    return ((screen[..., None] >> shifts) & np.uint32(255)).astype(np.uint8)


def _to_image(screen: NDArray[np.uint32], alpha: bool = False) -> Image.Image:
    rgba = _bytes(screen)
    return Image.fromarray(np.ascontiguousarray(rgba if alpha else rgba[..., :3]))


def _scaled(picture: Image.Image, placement: Placement, size: tuple[int, int]) -> Image.Image:
    """Put a picture where the placement says; averaged when shrunk, interpolated when enlarged."""
    if min(placement.dx, placement.dy) < 1.0:
        wanted = (max(1, round(placement.width)), max(1, round(placement.height)))
        small = picture.resize(wanted, Image.Resampling.BILINEAR)
        out = Image.new(picture.mode, size)
        out.paste(small, (round(placement.left), round(placement.top)))
        return out
    matrix = (
        1 / placement.dx,
        0.0,
        -placement.left / placement.dx,
        0.0,
        1 / placement.dy,
        -placement.top / placement.dy,
    )
    return picture.transform(size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def _over(image: Image.Image, layer: NDArray[np.uint8]) -> Image.Image:
    """Lay premultiplied RGBA over an opaque picture."""
    below = np.asarray(image, dtype=np.uint16)
    keep = 255 - layer[..., 3:4].astype(np.uint16)
    mixed = layer[..., :3] + (below * keep + 127) // 255
    return Image.fromarray(np.minimum(mixed, 255).astype(np.uint8))


def _margin(style: PageStyle) -> int:
    return style.px(12)


def _corners(draw: ImageDraw.ImageDraw, panel: Panel, size: tuple[int, int], style: PageStyle) -> None:
    window = None if is_colour(panel.series.volume) else panel.window
    inverted = panel.inverted != panel.series.volume.inverted
    texts = corner_texts(panel.series.volume, panel.grid, panel.number, window, inverted)
    margin = _margin(style)
    title, _, rest = texts.top_left.partition("\n")
    write_text(draw, (margin, margin), title, style, size=11, color=style.plane_color(panel.plane))
    lines = [line for line in (rest,) if line]
    if panel.explanation is not None:
        lines.append(heat_note(panel.explanation))
    write_text(draw, (margin, margin + style.px(16)), "\n".join(lines), style)
    bottom = size[1] - margin
    write_text(draw, (margin, bottom), texts.bottom_left, style, anchor="ld")
    write_text(draw, (size[0] - margin, bottom), texts.bottom_right, style, anchor="rd")
    if texts.marker:
        below = margin + style.px(20) * (2 + len(lines))
        write_text(draw, (margin, below), texts.marker, style, size=20, bold=True)


def _bottom_right(panel: Panel) -> str:
    return corner_texts(panel.series.volume, panel.grid, panel.number, None).bottom_right


def _letters(draw: ImageDraw.ImageDraw, grid: PlaneGrid, size: tuple[int, int], style: PageStyle) -> None:
    margin, (width, height), letters = _margin(style), size, grid.letters
    for text, position, anchor in (
        (letters.left, (margin, height / 2), "lm"),
        (letters.right, (width - margin, height / 2), "rm"),
        (letters.top, (width / 2, margin), "ma"),
        (letters.bottom, (width / 2, height - margin), "md"),
    ):
        write_text(draw, position, text, style, anchor=anchor, size=15, bold=True)


def _scale_bar(
    draw: ImageDraw.ImageDraw, panel: Panel, placement: Placement, size: tuple[int, int], style: PageStyle
) -> None:
    if is_uncalibrated(panel.series.volume):
        return
    bar = scale_bar(placement.dx / panel.grid.spacing_mm[1], size[0] * 0.22)
    if bar is None:
        return
    margin, tick = _margin(style), style.px(4)
    lines = (_bottom_right(panel).count("\n") + 1) if panel.annotated else 0
    right, y = size[0] - margin, size[1] - margin - style.px(8 + 18 * lines)
    left = right - bar.length_px
    for width, token in ((3, "overlay_shadow"), (1.5, "overlay_text")):
        pen = max(1, style.px(width))
        draw.line((left, y, right, y), fill=style.color(token), width=pen)
        for x in (left, right):
            draw.line((x, y - tick, x, y + tick), fill=style.color(token), width=pen)
    write_text(draw, (right, y - style.px(6)), bar.label, style, anchor="rd", size=11)


def _crosshair(
    draw: ImageDraw.ImageDraw, panel: Panel, placement: Placement, size: tuple[int, int], style: PageStyle
) -> None:
    if panel.crosshair is None or panel.crosshair_planes is None:
        return
    x, y = (math.floor(v) for v in placement.to_viewport(*panel.crosshair))
    gap, pen = style.px(14), max(1, style.px(1))
    vertical, horizontal = ((*style.plane_color(plane), 190) for plane in panel.crosshair_planes)
    for start, end in ((0, y - gap), (y + gap, size[1])):
        draw.line((x, start, x, end), fill=vertical, width=pen)
    for start, end in ((0, x - gap), (x + gap, size[0])):
        draw.line((start, y, end, y), fill=horizontal, width=pen)


def _legend(
    image: Image.Image, draw: ImageDraw.ImageDraw, heat: HeatStyle, size: tuple[int, int], style: PageStyle
) -> None:
    width, height = style.px(10), min(style.px(120), round(size[1] * 0.35))
    left, top = size[0] - _margin(style) - style.px(34) - width, (size[1] - height) // 2
    ramp = Image.fromarray(np.ascontiguousarray(color_ramp(heat.colors)[::-1].reshape(256, 1, 3)))
    image.paste(ramp.resize((width, height)), (left, top))
    cut = top + height - heat.threshold * height
    draw.rectangle((left, cut, left + width, top + height), fill=(0, 0, 0, 190))
    draw.rectangle((left, top, left + width, top + height), outline=style.color("overlay_text"))
    values = [1.0, heat.threshold] + ([0.0] if heat.threshold * height > style.px(16) else [])
    for value in values:
        y = top + height - value * height
        write_text(draw, (left - style.px(5), y), f"{value:.2g}", style, anchor="rm", size=11)


def _badges(draw: ImageDraw.ImageDraw, panel: Panel, size: tuple[int, int], style: PageStyle) -> None:
    margin, y = _margin(style), float(_margin(style))
    font = style.font(11)
    for badge in badges(panel.series.volume):
        token = "caution" if badge.tone == "caution" else "text_dim"
        width, height = font.getlength(badge.text) + style.px(14), style.px(19)
        left = size[0] - margin - width
        outline = (*style.color(token), 160) if badge.tone == "caution" else None
        box = (left, y, left + width, y + height)
        draw.rounded_rectangle(box, style.px(4), fill=(0, 0, 0, 190), outline=outline)
        draw.text(
            (left + width / 2, y + height / 2), badge.text, font=font, fill=style.color(token), anchor="mm"
        )
        y += height + style.px(4)
