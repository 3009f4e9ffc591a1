"""Finds the series that a derived object was made from."""

from __future__ import annotations

from core.domain.derived import DerivedObject, SourceImage
from core.domain.study import ObjectKind, SeriesKind, SeriesSummary
from core.domain.volume import Volume
from core.services.engine import Engine
from core.services.list_studies import get_series, get_study

_OF_A_STUDY = {ObjectKind.REPORT, ObjectKind.DOCUMENT}


def source_of(engine: Engine, series_key: str) -> SeriesSummary | None:
    """Return the image series that a derived series lies over.

    The first of its source series that the library holds; where the object names none, the largest image series
    of its study with its frame of reference. A report or document without either lies over the largest series of
    its study. None when there is nothing of it.

    Raises
    ------
    InputError
        When the derived series isn't in the library.
    """
    derived, _ = get_series(engine, series_key)
    with engine.unit_of_work(writes=False) as uow:
        for uid in derived.source_series:
            found = uow.series.get(uid)
            if found is not None and _is_image(found):
                return found
    if derived.source_series:
        return None
    others = [s for s in get_study(engine, derived.study_uid).series if _is_image(s)]
    frame = derived.frame_of_reference_uid
    if frame is not None:
        others = [s for s in others if s.frame_of_reference_uid == frame]
    elif derived.object_kind not in _OF_A_STUDY:
        return None
    return max(others, key=lambda s: (s.kind is SeriesKind.VOLUME, s.frames), default=None)


def find_image(engine: Engine, image: SourceImage) -> tuple[SeriesSummary, int] | None:
    """Return the series that holds an image and the time point it belongs to, from 0.

    None when the library doesn't have it. Instances of a 4-D series are stored one time point after the other.
    """
    with engine.unit_of_work(writes=False) as uow:
        stored = uow.instances.known([image.sop_instance_uid]).get(image.sop_instance_uid)
        series = uow.series.get(stored.series_uid) if stored is not None else None
        if series is None or series.time_points < 2:
            return None if series is None else (series, 0)
        instances = uow.instances.of_series(series.key)
    before, total = 0, sum(instance.frames for instance in instances)
    for instance in instances:
        if instance.sop_instance_uid == image.sop_instance_uid:
            frame = before + (image.frames[0] - 1 if image.frames else 0)
            return series, min(frame * series.time_points // max(total, 1), series.time_points - 1)
        before += instance.frames
    return series, 0


def open_over(engine: Engine, sop_instance_uid: str, volume: Volume | None) -> DerivedObject:
    """Read an object onto the very grid that is displayed; see ``derived_objects.open_derived``."""
    # Here, not above: finding a source shall not load the readers of objects.
    from core.dicom.derived.grid import TargetGrid
    from core.services.derived_objects import open_derived

    target = TargetGrid.of(volume) if volume is not None else None
    return open_derived(engine, sop_instance_uid, target=target)


def _is_image(series: SeriesSummary) -> bool:
    return series.kind is not SeriesKind.OTHER
