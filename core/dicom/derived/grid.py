"""The grid that an object is shown on, and whether the object may be shown there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from core.domain.derived import SourceImage
from core.domain.errors import EnvironmentFault, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue, Volume

MAX_BYTES = 4 << 30
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True, eq=False)
class TargetGrid:
    """The grid of a series as it is displayed.

    ``sop_instance_uids`` and ``frame_numbers`` are one per slice where each slice is an image (empty strings stand for
    slices that are none), else empty. ``positioned`` is False when the images state no place in the patient.
    """

    geometry: VolumeGeometry
    series_uid: str = ""
    sop_instance_uids: tuple[str, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    positioned: bool = True

    @classmethod
    def of(cls, volume: Volume) -> TargetGrid:
        """Return the grid of a volume."""
        return cls(
            volume.geometry,
            volume.series_uid,
            volume.sop_instance_uids,
            volume.frame_numbers,
            volume.positioned,
        )

    def names_any(self, images: Sequence[SourceImage]) -> bool:
        """Whether one of ``images`` is a slice of the grid."""
        own = set(self.sop_instance_uids)
        return any(image.sop_instance_uid in own for image in images)


def check_frame_of_reference(
    own_uid: str, target: TargetGrid, source_series: Sequence[str], images: Sequence[SourceImage]
) -> tuple[SeriesIssue, ...]:
    """Compare an object's Frame of Reference UID with that of the images it is to be shown over.

    Returns
    -------
    tuple of SeriesIssue
        One when the identifiers differ although the object names these very images (some programs write a random
        identifier); empty when they agree or one of them is missing.

    Raises
    ------
    SafetyError
        When they differ and nothing ties the object to these images (``derived.frame_of_reference``).
    """
    theirs = target.geometry.frame_of_reference_uid or ""
    if not own_uid or not theirs or own_uid == theirs:
        return ()
    if target.series_uid in source_series or target.names_any(images):
        return (
            SeriesIssue(
                "derived.frame_of_reference",
                "The object names these images but another Frame of Reference (0020,0052); it is placed by its "
                "coordinates.",
            ),
        )
    raise SafetyError(
        "derived.frame_of_reference",
        "The object lies in another frame of reference (0020,0052) than the images: its place on them is unknown.",
        "Open it over the series that it was made from.",
    )


def memory_limit() -> int:
    """Return how many bytes one object may take."""
    return min(MAX_BYTES, int(_SHARE_OF_MEMORY * psutil.virtual_memory().available))


def fits(needed: int) -> bool:
    """Whether so many bytes may be taken."""
    return needed <= memory_limit()


def require_memory(needed: int, what: str) -> None:
    """Refuse, before anything is allocated, what would not fit.

    Raises
    ------
    EnvironmentFault
        ``memory.object_too_large``.
    """
    limit = memory_limit()
    if needed > limit:
        raise EnvironmentFault(
            "memory.object_too_large",
            f"{what} needs {needed >> 20} MB; {limit >> 20} MB may be used.",
            "Close other programs or studies and try again.",
        )
