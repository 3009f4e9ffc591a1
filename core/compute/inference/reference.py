"""The reference input of a bundle, as a Volume, and the answer that is expected to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from core.bundles.bundle import REFERENCE_EXPECTED, REFERENCE_INPUT, Bundle
from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume


@dataclass(frozen=True, eq=False)
class ReferenceCase:
    """Input and expected output; one of ``labels`` and ``probabilities`` is there."""

    volume: Volume
    labels: NDArray[np.uint8] | None
    probabilities: NDArray[np.float32] | None


def read_reference(bundle: Bundle) -> ReferenceCase:
    """Read ``reference_io/``; raises InputError ``bundle.reference`` when absent or damaged."""
    if not bundle.has_reference:
        raise InputError(
            "bundle.reference",
            f"{bundle.manifest.title} carries no reference input.",
            "Ask its maker for a bundle with a self-test.",
        )
    data = bundle.read(REFERENCE_INPUT)
    try:
        given = safetensors.numpy.load(data)
        expected = safetensors.numpy.load(bundle.read(REFERENCE_EXPECTED))
        about = _metadata(data)
        geometry = VolumeGeometry(given["voxels"].shape[:3], given["lps_from_ijk"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            "bundle.reference", "The reference input of the bundle is damaged.", "Get the bundle again."
        ) from error
    volume = Volume(
        geometry,
        given["voxels"],
        about.get("modality", ""),
        "reference",
        units=about.get("units", "stored"),
        inverted=about.get("inverted") == "true",
    )
    return ReferenceCase(volume, expected.get("labels"), expected.get("probabilities"))


def _metadata(data: bytes) -> dict[str, str]:
    """The free text of a safetensors header; the header's length is checked by ``deserialize`` first."""
    import json

    deserialize(data)
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length]).get("__metadata__", {}))
