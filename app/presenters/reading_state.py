"""What the reader intends and what the viewports show: frozen, comparable, free of Qt.

Arrays travel as layers with a ``key``: two layers with equal keys hold equal pixels, so a view that has
painted a key need not ask for its pixels again. ``load`` is cheap (a slice and a table look-up) and is
called on the GUI thread when the viewport paints, so that a burst of wheel events costs one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.annotations import Badge, CornerTexts
from core.render.heat import HeatColors, HeatStyle
from core.render.objects import Mark
from core.render.overlay import OverlayStyle
from core.render.palette import Rgb
from core.render.placement import Camera
from core.render.planes import Plane, PlaneGrid

_WHOLE = Camera()
_NO_TEXTS = CornerTexts()
_SOFT_TISSUE = Window(40.0, 400.0)
_OUTLINES = OverlayStyle()
_HEAT = HeatStyle()
VALUE_STYLE = HeatStyle(0.55, 0.02, HeatColors.VIRIDIS)
"""How maps of an archive are drawn: in other colours than the heat maps of our models."""


class Layout(StrEnum):
    """Arrangements of viewports."""

    MPR = "mpr"
    STACK = "stack"
    SCENE = "3d"
    QUAD = "2x2"


class Slot(StrEnum):
    """Places that a layout fills."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    IMAGE = "image"
    SCENE = "3d"

    @property
    def plane(self) -> Plane | None:
        """The plane shown here; None for the 3-D view."""
        return None if self is Slot.SCENE else Plane(self.value)


class Tool(StrEnum):
    """What the left button drags."""

    WINDOW = "window"
    CROSSHAIR = "crosshair"


@dataclass(frozen=True)
class Notice:
    """A sentence in place of a picture: what, why, and what to do. ``tone``: quiet, caution or danger."""

    title: str
    detail: str = ""
    remedy: str = ""
    tone: str = "quiet"


@dataclass(frozen=True)
class Cell:
    """Where a slot lies in the grid of viewports."""

    slot: Slot
    row: int
    column: int
    row_span: int = 1
    column_span: int = 1


@dataclass(frozen=True)
class LayoutState:
    """The arrangement on screen; ``notice`` covers everything when there is nothing to show."""

    layout: Layout
    cells: tuple[Cell, ...]
    notice: Notice | None = None


@dataclass(frozen=True)
class PictureLayer:
    """Grey or colour pixels: ``load()`` gives ``(rows, columns)`` uint32 screen pixels."""

    key: Hashable
    load: Callable[[], NDArray[np.uint32]] = field(compare=False, repr=False)


@dataclass(frozen=True)
class LabelLayer:
    """Segments: ``load()`` gives ``(rows, columns)`` label values."""

    key: Hashable
    style: OverlayStyle
    hidden: frozenset[int]
    colors: Mapping[int, Rgb] = field(compare=False, repr=False)
    load: Callable[[], NDArray[np.integer]] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Legend:
    """Words on a colour scale: at its upper end, at its threshold, at its lower end; ``title`` stands above."""

    high: str = "1"
    cut: str = ""
    low: str = "0"
    title: str = ""


@dataclass(frozen=True)
class HeatLayer:
    """A heat map: ``load()`` gives ``(rows, columns)`` premultiplied screen pixels."""

    key: Hashable
    style: HeatStyle
    note: str
    legend: Legend
    load: Callable[[], NDArray[np.uint32]] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Line:
    """A line in a colour: ``points`` is ``(N, 2)`` float64 screen positions (column, row) at pixel centres."""

    color: Rgb
    points: NDArray[np.float64] = field(compare=False, repr=False)
    closed: bool = True


@dataclass(frozen=True)
class LineLayer:
    """Contours, drawn as they were given."""

    key: Hashable
    load: Callable[[], tuple[Line, ...]] = field(compare=False, repr=False)


@dataclass(frozen=True)
class MarkLayer:
    """Graphics and words that somebody put on a picture; ``place`` maps slice positions (i, j) to the screen."""

    key: Hashable
    color: str
    marks: tuple[Mark, ...] = field(compare=False, repr=False)
    place: Callable[[NDArray[np.float64]], NDArray[np.float64]] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Gap:
    """Pictures or lines of a picture that were never acquired, in screen positions (column, row, width, height)."""

    column: int
    row: int
    columns: int
    rows: int


@dataclass(frozen=True)
class Crosshair:
    """Where the other planes cut this one; the two planes give the lines their colours."""

    column: float
    row: float
    vertical: Plane
    horizontal: Plane


@dataclass(frozen=True)
class ViewportState:
    """All that one viewport shows. ``grid`` is compared by identity."""

    slot: Slot
    grid: PlaneGrid | None = None
    number: int = 0
    picture: PictureLayer | None = None
    labels: LabelLayer | None = None
    heat: HeatLayer | None = None
    crosshair: Crosshair | None = None
    camera: Camera = _WHOLE
    corners: CornerTexts = _NO_TEXTS
    badges: tuple[Badge, ...] = ()
    notice: Notice | None = None
    active: bool = False
    annotated: bool = True
    calibrated: bool = True
    tool: Tool = Tool.WINDOW
    values: HeatLayer | None = None
    overlays: tuple[LabelLayer, ...] = ()
    lines: tuple[LineLayer, ...] = ()
    marks: tuple[MarkLayer, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class SceneState:
    """What the 3-D view shows. Without ``wanted`` it only offers to build itself: vtk stays unloaded."""

    key: Hashable = None
    wanted: bool = False
    active: bool = False
    preset: str = ""
    hidden: frozenset[int] = frozenset()
    show_segments: bool = True
    notice: Notice | None = None
    volume: Volume | None = field(default=None, compare=False, repr=False)
    segmentation: Segmentation | None = field(default=None, compare=False, repr=False)
    colors: Mapping[int, Rgb] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class ReadingIntent:
    """The reader's wishes, independent of what is loaded.

    ``cursor_ijk`` is the voxel where the planes meet. ``held`` hides every overlay while a key is held;
    ``blink_dark`` is the dark half of a blinking heat map.
    """

    layout: Layout = Layout.QUAD
    maximised: Slot | None = None
    active: Slot = Slot.AXIAL
    cursor_ijk: tuple[int, int, int] = (0, 0, 0)
    window: Window = _SOFT_TISSUE
    inverted: bool = False
    texts: bool = True
    crosshair: bool = True
    tool: Tool = Tool.WINDOW
    ai_hidden: bool = False
    held: bool = False
    overlay: OverlayStyle = _OUTLINES
    heat: HeatStyle = _HEAT
    blink: bool = False
    blink_dark: bool = False
    hidden_segments: frozenset[int] = frozenset()
    cameras: tuple[tuple[Slot, Camera], ...] = ()
    scene_wanted: bool = False
    scene_preset: str = ""
    objects_hidden: bool = False

    def camera(self, slot: Slot) -> Camera:
        """Zoom and pan of a slot."""
        return dict(self.cameras).get(slot, _WHOLE)


class ReadingView(Protocol):
    """What the presenter asks of the widgets; called on the GUI thread with what changed, and only then."""

    def show_layout(self, state: LayoutState) -> None:
        """Arrange the viewports."""

    def show_viewport(self, slot: Slot, state: ViewportState) -> None:
        """Show a plane."""

    def show_scene(self, state: SceneState) -> None:
        """Show the 3-D view."""

    def show_readout(self, slot: Slot, text: str) -> None:
        """Show the value under the cursor; an empty text clears it."""

    def set_blinking(self, active: bool) -> None:
        """Start or stop calling ``blink_tick`` twice a second."""
