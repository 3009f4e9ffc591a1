"""Objects that were made from images: find them, open them over their source, draw their pages.

All functions block; call them off the GUI thread.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.document import draw_page
from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.identity import kind_of, read_header, with_issues
from core.dicom.derived.open_object import ON_A_GRID, open_object
from core.dicom.derived.rasterize import contours_as_segmentation
from core.dicom.derived.source_grid import grid_of_files
from core.domain.derived import DerivedHeader, DerivedObject
from core.domain.errors import AppError, EnvironmentFault, InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import InstanceRef, ObjectKind, SeriesKind, SeriesSummary
from core.domain.volume import SeriesIssue
from core.services.engine import Engine
from core.services.list_studies import get_series

__all__ = ["contours_as_segmentation", "derived_of", "find_object", "grid_of", "open_derived", "render_page"]

_OF_A_STUDY = frozenset((ObjectKind.REPORT, ObjectKind.DOCUMENT))
"""Kinds that belong to the whole study when they name no images."""


def derived_of(engine: Engine, series_key: str) -> list[DerivedHeader]:
    """Return what the objects of a series say of themselves.

    Parameters
    ----------
    series_key : str
        An image series: then all objects of its study that were made from it, in the order of the study's series.
        A derived series: then the objects it holds.

    Raises
    ------
    InputError
        When the series isn't in the library. An object that can't be read is listed with an issue that says why.
    """
    summary, instances = get_series(engine, series_key)
    if summary.kind is SeriesKind.OTHER:
        return [_header(summary, instance) for instance in instances]
    with engine.unit_of_work(writes=False) as uow:
        others = uow.series.by_study([summary.study_uid]).get(summary.study_uid, [])
        made = [
            (other, uow.instances.of_series(other.key)) for other in others if _is_made_from(other, summary)
        ]
    headers = [_header(other, instance) for other, found in made for instance in found]
    return [h for h in headers if not h.source_series or summary.series_uid in h.source_series]


def open_derived(
    engine: Engine,
    sop_instance_uid_or_series_key: str,
    target_series_key: str | None = None,
    *,
    target: TargetGrid | None = None,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> DerivedObject:
    """Read an object for showing it over images.

    Parameters
    ----------
    sop_instance_uid_or_series_key : str
        The object, or a derived series (then its first object).
    target_series_key : str or None
        The series it is shown over; None takes the first of its source series that the library has. When there is
        none, a segmentation or map keeps its own grid, and an issue says so.
    target : TargetGrid or None
        The displayed grid itself (``TargetGrid.of(volume)``), which goes before ``target_series_key``.

    Raises
    ------
    InputError
        When the object is unknown, damaged or of a kind that can't be shown.
    SafetyError
        When it lies in another frame of reference than the images.
    EnvironmentFault
        When a file is gone or the memory doesn't suffice.
    """
    summary, instance = find_object(engine, sop_instance_uid_or_series_key)
    engine.note_access(summary.study_uid, instance.sop_instance_uid, 1)
    header = read_header(instance.file)
    missing = False
    if header.kind in ON_A_GRID and target is None:
        series = (
            get_series(engine, target_series_key)[0]
            if target_series_key
            else _source(engine, summary, header)
        )
        missing = series is None
        target = grid_of(engine, series.key) if series is not None else None
    opened = open_object(instance.file, target, header=header, progress=progress, cancel=cancel)
    if missing:
        issue = SeriesIssue(
            "derived.source_missing",
            "The images that the object was made from are not in the library; it is shown on a grid of its own.",
        )
        opened = replace(opened, header=with_issues(opened.header, issue))
    return opened


def render_page(
    engine: Engine, sop_instance_uid_or_series_key: str, page: int, width_px: int
) -> NDArray[np.uint8]:
    """Return a page of an encapsulated PDF as ``(H, W, 3)`` RGB.

    Parameters
    ----------
    page : int
        From 0.
    width_px : int
        Width of the picture, 16 to 4096; the height follows.

    Raises
    ------
    InputError
        When the object is unknown or no PDF, has no such page, or the page can't be drawn.
    EnvironmentFault
        When a file is gone or the drawing process can't be started.
    """
    summary, instance = find_object(engine, sop_instance_uid_or_series_key)
    engine.note_access(summary.study_uid, instance.sop_instance_uid, 1)
    return draw_page(instance.file, page, width_px)


def grid_of(engine: Engine, series_key: str, time_point: int = 0) -> TargetGrid:
    """Return the grid on which a series is displayed, without decoding its pixels.

    Raises
    ------
    InputError
        When the series is unknown or holds no images.
    EnvironmentFault
        When a file is gone.
    """
    summary, instances = get_series(engine, series_key)
    if summary.kind is SeriesKind.OTHER:
        raise InputError(
            "series.not_an_image",
            f"A {summary.modality} series holds no images to show.",
            "Choose an image series of the study.",
        )
    return grid_of_files(instances, summary, time_point=time_point)


def find_object(engine: Engine, sop_instance_uid_or_series_key: str) -> tuple[SeriesSummary, InstanceRef]:
    """Return the series that holds an object, and the object's file.

    Raises
    ------
    InputError
        When the library doesn't have it (``derived.unknown``).
    EnvironmentFault
        When its file is gone (``file.missing``).
    """
    reference = sop_instance_uid_or_series_key
    with engine.unit_of_work(writes=False) as uow:
        stored = uow.instances.known([reference]).get(reference)
        summary = uow.series.get(stored.series_uid if stored is not None else reference)
        instances = uow.instances.of_series(summary.key) if summary is not None and stored is None else ()
    instance = stored.instance if stored is not None else next(iter(instances), None)
    if summary is None or instance is None:
        raise InputError(
            "derived.unknown",
            "There is no such object in the library.",
            "Import it, or list the objects of a series with 'overread derived'.",
        )
    if not instance.file.is_file():
        raise EnvironmentFault(
            "file.missing", "The object's file is gone.", "Put the medium back or import the study again."
        )
    return summary, instance


def _source(engine: Engine, summary: SeriesSummary, header: DerivedHeader) -> SeriesSummary | None:
    """Return the image series that an object was made from: by its references, else by its frame of reference."""
    with engine.unit_of_work(writes=False) as uow:
        for uid in (*header.source_series, *summary.source_series):
            found = uow.series.get(uid)
            if found is not None and found.kind is not SeriesKind.OTHER:
                return found
        others = uow.series.by_study([summary.study_uid]).get(summary.study_uid, [])
    frame = header.frame_of_reference_uid
    same = [s for s in others if _is_image(s) and frame and s.frame_of_reference_uid == frame]
    return max(same, key=lambda s: (s.kind is SeriesKind.VOLUME, s.frames), default=None)


def _is_image(series: SeriesSummary) -> bool:
    return series.kind is not SeriesKind.OTHER


def _is_made_from(series: SeriesSummary, source: SeriesSummary) -> bool:
    """Whether a series holds objects that belong to ``source``."""
    if _is_image(series):
        return False
    if series.source_series:
        return source.series_uid in series.source_series
    if series.object_kind in _OF_A_STUDY:
        return True
    frame = series.frame_of_reference_uid
    return bool(frame) and frame == source.frame_of_reference_uid


def _header(summary: SeriesSummary, instance: InstanceRef) -> DerivedHeader:
    """Return what an object says of itself; when it can't be read, what the library knows of it."""
    try:
        return read_header(instance.file)
    except AppError as error:
        kind = summary.object_kind or kind_of(instance.sop_class_uid)
        return DerivedHeader(
            kind=kind or ObjectKind.UNKNOWN,
            sop_instance_uid=instance.sop_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            series_uid=summary.series_uid,
            study_uid=summary.study_uid,
            label=summary.description,
            source_series=summary.source_series,
            issues=(SeriesIssue(error.code, error.user_message),),
        )
