"""Where a picture lies in its viewport, and the scale bar that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from core.render.planes import PlaneGrid

MIN_ZOOM, MAX_ZOOM = 0.1, 40.0

_BAR_LENGTHS_MM = (500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)


@dataclass(frozen=True)
class Camera:
    """What the reader set: ``zoom`` 1 fits the picture; ``pan`` shifts its centre, in viewport sizes.

    Pan is relative so that a picture stays where it is when the window changes its size.
    """

    zoom: float = 1.0
    pan_x: float = 0.0
    pan_y: float = 0.0


@dataclass(frozen=True)
class Placement:
    """Picture to viewport: pixel (column c, row r) has its upper left corner at (left + c·dx, top + r·dy)."""

    left: float
    top: float
    dx: float
    dy: float
    columns: int
    rows: int

    @property
    def width(self) -> float:
        """Width of the whole picture in viewport pixels."""
        return self.columns * self.dx

    @property
    def height(self) -> float:
        """Height of the whole picture in viewport pixels."""
        return self.rows * self.dy

    def to_viewport(self, column: float, row: float) -> tuple[float, float]:
        """Viewport position of a picture position given at pixel centres (0 = centre of the first)."""
        return self.left + (column + 0.5) * self.dx, self.top + (row + 0.5) * self.dy

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """Picture position (column, row), pixel centres integral, of a viewport position."""
        return (x - self.left) / self.dx - 0.5, (y - self.top) / self.dy - 0.5


@dataclass(frozen=True)
class ScaleBar:
    """A bar of a round length."""

    length_mm: float
    length_px: float
    label: str


def place(grid: PlaneGrid, size: tuple[int, int], camera: Camera, margin: float = 0.0) -> Placement:
    """Fit a plane's picture into a viewport of ``size`` (width, height), then zoom and pan.

    Pixels keep their physical proportions: one millimetre is equally long across and down.
    """
    width, height = max(size[0], 1), max(size[1], 1)
    down_mm, across_mm = grid.spacing_mm
    extent_x, extent_y = grid.columns * across_mm, grid.rows * down_mm
    fit = min(max(width - 2 * margin, 1) / extent_x, max(height - 2 * margin, 1) / extent_y)
    per_mm = fit * camera.zoom
    left = (width - extent_x * per_mm) / 2 + camera.pan_x * width
    top = (height - extent_y * per_mm) / 2 + camera.pan_y * height
    return Placement(left, top, across_mm * per_mm, down_mm * per_mm, grid.columns, grid.rows)


def zoom_about(
    camera: Camera, grid: PlaneGrid, size: tuple[int, int], at: tuple[float, float], factor: float
) -> Camera:
    """Zoom by ``factor`` so that the picture position under ``at`` (viewport pixels) stays under it."""
    zoom = min(MAX_ZOOM, max(MIN_ZOOM, camera.zoom * factor))
    column, row = place(grid, size, camera).to_picture(*at)
    moved = place(grid, size, Camera(zoom, camera.pan_x, camera.pan_y)).to_viewport(column, row)
    return Camera(
        zoom,
        camera.pan_x + (at[0] - moved[0]) / max(size[0], 1),
        camera.pan_y + (at[1] - moved[1]) / max(size[1], 1),
    )


def scale_bar(per_mm_px: float, longest_px: float) -> ScaleBar | None:
    """Choose the longest round bar that is at most ``longest_px`` long, or None when none is visible."""
    for length_mm in _BAR_LENGTHS_MM:
        length_px = length_mm * per_mm_px
        if 12.0 <= length_px <= longest_px:
            label = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm:g} mm"
            return ScaleBar(length_mm, length_px, label)
    return None
