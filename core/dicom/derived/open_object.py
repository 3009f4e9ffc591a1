"""Opens a derived object of any kind."""

from __future__ import annotations

from pathlib import Path

from core.dicom.derived.document import read_document
from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.gsps import read_presentation
from core.dicom.derived.identity import read_header
from core.dicom.derived.pm import read_parametric_map
from core.dicom.derived.rtstruct import read_structures
from core.dicom.derived.seg import read_segmentation
from core.dicom.derived.sr import read_key_objects, read_report
from core.domain.derived import DerivedHeader, DerivedObject
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import ObjectKind

ON_A_GRID = frozenset((ObjectKind.SEGMENTATION, ObjectKind.STRUCTURE_SET, ObjectKind.PARAMETRIC_MAP))
"""Kinds that are shown over voxels."""


def open_object(
    path: Path,
    target: TargetGrid | None = None,
    *,
    header: DerivedHeader | None = None,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> DerivedObject:
    """Read an object of any kind.

    Parameters
    ----------
    target : TargetGrid or None
        The images that a segmentation, structure set or map is shown over.
    header : DerivedHeader or None
        What the object says of itself, if that was read already.

    Raises
    ------
    AppError
        When the object can't be read or must not be shown there.
    """
    header = header or read_header(path)
    match header.kind:
        case ObjectKind.SEGMENTATION:
            return read_segmentation(path, target, progress=progress, cancel=cancel)
        case ObjectKind.STRUCTURE_SET:
            return read_structures(path, target)
        case ObjectKind.REPORT:
            return read_report(path)
        case ObjectKind.KEY_OBJECTS:
            return read_key_objects(path)
        case ObjectKind.PRESENTATION:
            return read_presentation(path)
        case ObjectKind.PARAMETRIC_MAP:
            return read_parametric_map(path, target, progress=progress, cancel=cancel)
        case ObjectKind.DOCUMENT:
            return read_document(path)
        case _:
            raise InputError(
                "derived.unknown_kind",
                f"Objects of the class {header.sop_class_uid[:64]} can't be shown.",
                "Its elements can be read in the tag viewer.",
            )
