"""Which study pictures belong to that the library knows in part.

Pictures name no study: those of a folder are one, recognised by their contents (``core.formats.scan``). So a folder
that grew would be another study, and a picture that came in alone one of its own; here they are brought together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.domain.study import ScannedSeries
from core.library.unit_of_work import UnitOfWork
from core.services.engine import Engine

PICTURES = "image"


def at_home(engine: Engine, series: Sequence[ScannedSeries]) -> list[ScannedSeries]:
    """Return series with the studies under which the library has them or shall have them.

    What the library has stays in its study. New pictures of a folder join a study of the library only when all that
    this study holds is in the folder too: one picture that two folders share doesn't make them one.
    """
    by_study: dict[str, list[ScannedSeries]] = {}
    for one in series:
        if one.source_format == PICTURES:
            by_study.setdefault(one.summary.study_uid, []).append(one)
    if not by_study:
        return list(series)
    homes: dict[str, str] = {}
    with engine.unit_of_work(writes=False) as uow:
        for found in by_study.values():
            homes.update(_homes(uow, found))
    return [in_study(one, homes[one.summary.key]) if one.source_format == PICTURES else one for one in series]


def in_study(series: ScannedSeries, study_uid: str) -> ScannedSeries:
    """Return a series under another Study Instance UID."""
    return replace(series, summary=replace(series.summary, study_uid=study_uid))


def _homes(uow: UnitOfWork, folder: Sequence[ScannedSeries]) -> dict[str, str]:
    """Return the study of each series of a folder, by key."""
    contents = {ref.sop_instance_uid for one in folder for ref in one.instances}
    stored = {file.series_uid for file in uow.instances.known(contents).values()}
    known = {uid: found.study_uid for uid in stored if (found := uow.series.get(uid)) is not None}
    homes = {one.summary.key: known.get(one.summary.key, one.summary.study_uid) for one in folder}
    fresh = [one for one in folder if one.summary.key not in known]
    if fresh and known:
        joined = _largest_within(uow, sorted(set(known.values())), contents)
        if joined:
            homes.update({one.summary.key: joined for one in fresh})
    return homes


def _largest_within(uow: UnitOfWork, studies: Sequence[str], contents: set[str]) -> str:
    """Return the study of which all is among ``contents`` and that holds most; empty when there is none."""
    sizes: dict[str, int] = {}
    for study_uid, series in uow.series.by_study(studies).items():
        held = {ref.sop_instance_uid for one in series for ref in uow.instances.of_series(one.key)}
        if held and held <= contents:
            sizes[study_uid] = len(held)
    return max(sorted(sizes), key=sizes.__getitem__, default="")
