"""Show the elements of an instance or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.dicom import tags
from core.domain.errors import InputError
from core.services.engine import Engine
from core.services.list_studies import get_series, list_studies


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


def _find(engine: Engine, uid: str) -> Path:
    """Return the file of an instance, or of the first instance of a series."""
    for study in list_studies(engine):
        for series in study.series:
            if uid in (series.key, series.series_uid):
                return get_series(engine, series.key)[1][0].file
            for instance in get_series(engine, series.key)[1]:
                if instance.sop_instance_uid == uid:
                    return instance.file
    raise InputError(
        "instance.unknown",
        "There is neither such a file nor such an instance in the library.",
        "Give a file's path, or the SOP Instance UID of an imported image.",
    )
