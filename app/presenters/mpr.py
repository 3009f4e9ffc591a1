"""Linked planes: one voxel is the meeting point of all of them."""

from __future__ import annotations

import numpy as np

from app.presenters.reading_state import Cell, Crosshair, Layout, Slot
from core.render.planes import Plane, PlaneGrid
from core.render.series import DisplaySeries

Ijk = tuple[int, int, int]

_QUAD = (Cell(Slot.AXIAL, 0, 0), Cell(Slot.CORONAL, 0, 1), Cell(Slot.SAGITTAL, 1, 0), Cell(Slot.SCENE, 1, 1))
_MPR = (
    Cell(Slot.AXIAL, 0, 0, row_span=2, column_span=2),
    Cell(Slot.CORONAL, 0, 2),
    Cell(Slot.SAGITTAL, 1, 2),
)


def cells_for(layout: Layout, series: DisplaySeries, maximised: Slot | None) -> tuple[Cell, ...]:
    """Arrange the slots of a layout; a series with one plane always fills the whole area with it."""
    native = Slot(series.native.value)
    if len(series.planes) == 1:
        return (Cell(native, 0, 0),)
    cells = {
        Layout.QUAD: _QUAD,
        Layout.MPR: _MPR,
        Layout.STACK: (Cell(native, 0, 0),),
        Layout.SCENE: (Cell(Slot.SCENE, 0, 0),),
    }[layout]
    if maximised is not None and any(cell.slot is maximised for cell in cells):
        return (Cell(maximised, 0, 0),)
    return cells


def clipped(series: DisplaySeries, ijk: tuple[float, float, float]) -> Ijk:
    """Nearest voxel of the grid."""
    shape = series.volume.geometry.shape_ijk
    i, j, k = (int(np.clip(round(n), 0, size - 1)) for n, size in zip(ijk, shape, strict=True))
    return i, j, k


def number_of(grid: PlaneGrid, cursor: Ijk) -> int:
    """Picture of a plane that holds the cursor."""
    return round(grid.position_of(cursor)[2])


def moved_through(grid: PlaneGrid, cursor: Ijk, number: int) -> Ijk:
    """Cursor after going to picture ``number`` of a plane, clipped to the first and last."""
    column, row, _ = grid.position_of(cursor)
    i, j, k = grid.ijk_of(column, row, min(max(number, 0), grid.count - 1))
    return round(i), round(j), round(k)


def moved_within(grid: PlaneGrid, cursor: Ijk, column: float, row: float) -> Ijk:
    """Cursor after pointing at a position of the picture of a plane, clipped to the picture."""
    number = grid.position_of(cursor)[2]
    column = min(max(round(column), 0), grid.columns - 1)
    row = min(max(round(row), 0), grid.rows - 1)
    i, j, k = grid.ijk_of(column, row, number)
    return round(i), round(j), round(k)


def crosshair_in(series: DisplaySeries, plane: Plane, cursor: Ijk) -> Crosshair | None:
    """Lines along which the other planes cut this one; None when there is no other plane."""
    if len(series.planes) == 1:
        return None
    grid = series.grids[plane]
    column, row, _ = grid.position_of(cursor)
    by_axis = {other.through.array_axis: p for p, other in series.grids.items()}
    return Crosshair(column, row, by_axis[grid.across.array_axis], by_axis[grid.down.array_axis])
