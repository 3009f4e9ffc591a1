"""Grids and heat maps as documents: exact numbers, which the 32-bit header of a NIfTI file can't hold."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config.sealed_file import open_plain, write_kept
from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry

_MEMBER = "heat.npy"
_COMPRESSION_LEVEL = 1


def geometry_to_json(geometry: VolumeGeometry) -> str:
    """Return a grid as JSON; numbers survive exactly."""
    return json.dumps(
        {
            "shape_kji": geometry.shape_kji,
            "lps_from_ijk": [float(x) for x in geometry.lps_from_ijk.ravel()],
            "frame_of_reference_uid": geometry.frame_of_reference_uid,
        }
    )


def geometry_from_json(text: str) -> VolumeGeometry:
    """Return the grid of a JSON text."""
    document: dict[str, Any] = json.loads(text)
    k, j, i = document["shape_kji"]
    matrix = np.array(document["lps_from_ijk"], dtype=np.float64).reshape(4, 4)
    return VolumeGeometry((k, j, i), matrix, document["frame_of_reference_uid"])


def write_heat(path: Path, heat: NDArray[np.float32]) -> None:
    """Write a ``(K, J, I)`` heat map in 0…1 as compressed float16 (``.npz``), atomically.

    Half precision keeps 0…1 to 5e-4, far below what a colour map shows.
    """
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive,
        archive.open(_MEMBER, "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array(member, heat.astype(np.float16), allow_pickle=False)
    write_kept(path, packed.getbuffer())


def read_heat(path: Path) -> NDArray[np.float32]:
    """Return the ``(K, J, I)`` float32 heat map of a file that ``write_heat`` wrote.

    Raises
    ------
    SafetyError
        If the file is missing or damaged (``results.heat_map_unreadable``).
    """
    try:
        with open_plain(path) as stream, np.load(stream, allow_pickle=False) as archive:
            heat: NDArray[np.float32] = archive["heat"].astype(np.float32)
            return heat
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SafetyError(
            "results.heat_map_unreadable",
            "The heat map's file is missing or damaged.",
            "Explain the result again.",
        ) from error
