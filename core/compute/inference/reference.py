"""The reference input of a bundle, as a Volume, and the answer that is expected to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from core.bundles.bundle import REFERENCE_EXPECTED, REFERENCE_INPUT, Bundle
from core.bundles.writer import CONTRAST_PREFIX
from core.compute.inference.contrasts import Given
from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume


@dataclass(frozen=True, eq=False)
class ReferenceCase:
    """Input and expected output.

    Attributes
    ----------
    volumes : dict of str to Volume
        By contrast, on one grid; named ``""`` for a model that takes a single series.
    text : str or None
        The report that goes with the input.
    labels, probabilities, measurements : numpy.ndarray or None
        ``(K, J, I)`` uint8, ``(classes,)`` float32, ``(measurements,)`` float32 in their units. One is there.
    """

    volumes: dict[str, Volume]
    labels: NDArray[np.uint8] | None
    probabilities: NDArray[np.float32] | None
    measurements: NDArray[np.float32] | None = None
    text: str | None = None

    @property
    def volume(self) -> Volume:
        """The first volume."""
        return next(iter(self.volumes.values()))

    @property
    def given(self) -> Given:
        """What ``run_bundle`` takes."""
        return self.volume if list(self.volumes) == [""] else self.volumes


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
    names = {"voxels": about.get("contrast", "")} | {
        key: key.removeprefix(CONTRAST_PREFIX) for key in sorted(given) if key.startswith(CONTRAST_PREFIX)
    }
    volumes = {
        name: Volume(
            geometry,
            given[key],
            about.get("modality", ""),
            "reference",
            units=about.get("units", "stored"),
            inverted=about.get("inverted") == "true",
        )
        for key, name in names.items()
    }
    answers = {name: expected.get(name) for name in ("labels", "probabilities", "measurements")}
    return ReferenceCase(volumes, text=about.get("text"), **answers)


def _metadata(data: bytes) -> dict[str, str]:
    """The free text of a safetensors header; the header's length is checked by ``deserialize`` first."""
    import json

    deserialize(data)
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length]).get("__metadata__", {}))
