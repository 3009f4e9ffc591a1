"""The pictures of the report: cases by class, values as histograms."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from core.recipes.explore.facts import PICTURE, CaseFacts

PER_ROW = 8
_GAP = 4
_TITLE = 20
_BACKGROUND, _TEXT = (24, 26, 30), (225, 228, 232)
COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
"""Source: Okabe & Ito, "Color Universal Design", 2008."""


def contact_sheet(rows: Mapping[str, Sequence[CaseFacts]]) -> bytes:
    """Return a PNG with a row of pictures per class: up to eight cases, evenly spaced, masks as outlines."""
    width = PER_ROW * (PICTURE + _GAP) + _GAP
    height = len(rows) * (PICTURE + _TITLE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, max(height, _TITLE)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    top = _GAP
    for title, facts in rows.items():
        draw.text((_GAP, top), title[:110], fill=_TEXT, font=font)
        step = max(1, len(facts) // PER_ROW)
        for column, one in enumerate(list(facts[::step])[:PER_ROW]):
            left = _GAP + column * (PICTURE + _GAP)
            sheet.paste(Image.fromarray(outlined(one.picture, one.marks)), (left, top + _TITLE))
        top += PICTURE + _TITLE + _GAP
    return _png(sheet)


def outlined(picture: NDArray[np.uint8], marks: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return an ``(H, W, 3)`` picture with the borders of the labels in their colours."""
    colour = np.repeat(picture[..., None], 3, axis=2)
    if marks is None:
        return colour
    for value in np.unique(marks[marks > 0]):
        inside = marks == value
        border = inside & ~ndimage.binary_erosion(inside)
        colour[border] = COLOURS[(int(value) - 1) % len(COLOURS)]
    return colour


def histograms(samples: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Return a PNG with the distribution of the values of each group, as shares per bin, on a logarithmic scale."""
    # matplotlib takes a second to load
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    together = np.concatenate(list(samples.values()))
    low, high = (float(v) for v in np.percentile(together, [0.1, 99.9]))
    edges = np.linspace(low, high if high > low else low + 1, 65)
    if np.array_equal(together, np.rint(together)):
        # Whole numbers: every bin holds as many of them as the next.
        width = max(1, int(np.ceil((high - low) / 64)))
        edges = np.arange(np.floor(low), high + width + 1, width) - 0.5
    figure = Figure(figsize=(9.3, 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(samples.items()):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
        colour = tuple(channel / 255 for channel in COLOURS[number % len(COLOURS)])
        style = ("-", "--", ":")[number // len(COLOURS) % 3]
        axes.stairs(
            counts / max(1, counts.sum()),
            edges,
            label=name[:40],
            color=colour,
            linestyle=style,
            linewidth=1.5,
        )
    axes.set_yscale("log")
    axes.set_xlabel("value in the files")
    axes.set_ylabel("share of voxels")
    if len(samples) > 1 or "" not in samples:
        axes.legend(fontsize=8, ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
