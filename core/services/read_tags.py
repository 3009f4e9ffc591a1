"""Show the elements of an instance or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.dicom import tags
from core.domain.errors import InputError
from core.domain.tags import TagDocument
from core.services.engine import Engine
from core.services.list_studies import get_series


def read_tags(engine: Engine, instance_or_file: str | Path, query: str = "") -> list[dict[str, Any]]:
    """List the elements of a DICOM file or of an instance of the library.

    Parameters
    ----------
    instance_or_file : str or Path
        A path, a SOP Instance UID, or a series key or UID (then its first instance).
    query : str
        Text that tag, keyword, VR or value must contain.

    Returns
    -------
    list of dict
        See ``core.dicom.tags.read_tags``.

    Raises
    ------
    InputError
        If there is neither such a file nor such an instance, or the file is damaged.
    """
    path = Path(instance_or_file)
    if path.is_file():
        return tags.read_tags(path, query)
    return tags.read_tags(_find(engine, str(instance_or_file)), query)


@dataclass(frozen=True)
class InstanceTags:
    """The elements of an instance of a series: number ``position`` of ``total``, from 0, in the index's order.

    ``compared_with`` is the position of the instance whose differences are marked, or None.
    """

    document: TagDocument
    position: int
    total: int
    frames: int = 1
    compared_with: int | None = None


def open_instance_tags(engine: Engine, series_key: str, position: int = 0, compare: int = 0) -> InstanceTags:
    """Read the elements of an instance of a series, as a tree.

    Parameters
    ----------
    position : int
        Number of the instance in the order of the index; brought into the range that there is.
    compare : int
        How far from it, in that order, the instance lies whose differences are marked; 0 for none.

    Raises
    ------
    InputError
        If the series isn't in the library or holds no DICOM file (``tags.not_dicom``), or the file is damaged.
    EnvironmentFault
        If the file cannot be read: the medium is out, the drive can't be reached.
    """
    from core.dicom.tag_tree import read_tag_tree

    instances = get_series(engine, series_key)[1]
    if not instances:
        raise InputError("tags.no_instance", "The series has no file.", "Import it again.")
    place = max(0, min(position, len(instances) - 1))
    tree = read_tag_tree(instances[place].file)
    beside = place + compare if compare and 0 <= place + compare < len(instances) else None
    if beside is not None:
        tree = tree.compared_with(read_tag_tree(instances[beside].file))
    return InstanceTags(tree, place, len(instances), tree.frames, beside)


def _find(engine: Engine, uid: str) -> Path:
    """Return the file of an instance, or of the first instance of a series."""
    with engine.unit_of_work(writes=False) as uow:
        instance = uow.instances.get(uid)
        if instance is not None:
            return instance.file
        series = uow.series.get(uid)
        instances = uow.instances.of_series(series.key) if series is not None else ()
    if instances:
        return instances[0].file
    raise InputError(
        "instance.unknown",
        "There is neither such a file nor such an instance in the library.",
        "Give a file's path, or the SOP Instance UID of an imported image.",
    )
