"""From the contrasts of a study to the channels of one network, on one grid.

Every contrast is brought onto the grid of the first one (linear), then prepared as if it were alone: its own
intensity steps see its own values. A contrast that isn't there is a channel of zeros after preprocessing, which is
what the network was trained to take for "missing".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from core.bundles.manifest import Manifest
from core.compute.inference.prepare import PreparedVolume, check_geometry, prepare_image, prepare_volume
from core.compute.inference.sliding import padded_whole
from core.domain.errors import InputError, SafetyError
from core.domain.progress import CancelToken
from core.domain.volume import Volume
from core.recipes.reading import on_grid, overlap

Given = Volume | Mapping[str, Volume]


@dataclass(frozen=True, eq=False)
class Contrasts:
    """The volumes of one run.

    Attributes
    ----------
    volumes : dict of str to Volume
        By the manifest's name of the input; the first one gives the grid. One entry named ``""`` for a model that
        takes a single series.
    missing : tuple of str
        Inputs that will be zeros.
    """

    volumes: dict[str, Volume]
    missing: tuple[str, ...] = ()

    @property
    def first(self) -> Volume:
        """The volume on whose grid the answer lies."""
        return next(iter(self.volumes.values()))


def named_contrasts(manifest: Manifest, given: Given) -> Contrasts:
    """Assign what was given to the model's inputs, and refuse what can't be run.

    A single volume is the first input of a model that has several.

    Raises
    ------
    InputError
        ``run.contrast``: a name that the model doesn't have, or that is missing and may not be. Also
        ``run.kind`` and ``run.colour`` of ``check_geometry``.
    SafetyError
        ``run.contrast``: a contrast that lies in another place. Also those of ``check_geometry``.
    """
    if isinstance(given, Volume):
        given = {manifest.inputs[0] if manifest.inputs else "": given}
    volumes = _assigned(manifest, given)
    missing = tuple(name for name in manifest.inputs if name not in volumes)
    if not volumes or (missing and manifest.missing_inputs != "zeros"):
        lacking = ", ".join(missing) or "a series"
        raise InputError(
            "run.contrast",
            f"{manifest.title} needs {', '.join(manifest.inputs) or 'a series'}; {lacking} is missing.",
            "Give a series for each of them, for example --contrast T2=SERIES.",
        )
    for volume in volumes.values():
        check_geometry(manifest, volume)
    first = next(iter(volumes.values()))
    for name, volume in volumes.items():
        _check_place(first, volume, name)
    return Contrasts(volumes, missing)


def _assigned(manifest: Manifest, given: Mapping[str, Volume]) -> dict[str, Volume]:
    if not manifest.inputs:
        if len(given) > 1:
            raise InputError(
                "run.contrast",
                f"{manifest.title} takes one series; {len(given)} were given.",
                "Give one series.",
            )
        return dict(zip(("",), given.values(), strict=False))
    known = {name.casefold(): name for name in manifest.inputs}
    for name in given:
        if name.casefold() not in known:
            raise InputError(
                "run.contrast",
                f"{manifest.title} has no input “{name}”.",
                f"Its inputs are {', '.join(manifest.inputs)}.",
            )
    return {known[name.casefold()]: volume for name, volume in given.items()}


def _check_place(first: Volume, volume: Volume, name: str) -> None:
    """Raise unless both volumes lie in the same space; the same grid needs no further proof."""
    one, other = first.geometry, volume.geometry
    if volume is first or other.same_grid_as(one):
        return
    known = one.frame_of_reference_uid and other.frame_of_reference_uid
    apart = bool(known) and one.frame_of_reference_uid != other.frame_of_reference_uid
    if apart or not (first.positioned and volume.positioned) or not overlap(one, other):
        reason = "has another frame of reference than" if apart else "lies in another place than"
        raise SafetyError(
            "run.contrast",
            f"The contrast {name} {reason} the first one; they would not match voxel by voxel.",
            "Choose contrasts of one examination, or register them first.",
        )


def prepare_contrasts(
    contrasts: Contrasts, manifest: Manifest, cancel: CancelToken | None = None
) -> PreparedVolume:
    """Return the network's input: one channel per input in the manifest's order.

    Raises
    ------
    SafetyError
        ``run.sheared``.
    """
    first = contrasts.first
    prepared: dict[str, torch.Tensor] = {}
    grid = None
    for name, volume in contrasts.volumes.items():
        made = prepare_volume(on_first_grid(volume, first), manifest, cancel)
        grid = grid or made.grid
        prepared[name] = made.tensor
    assert grid is not None
    if not manifest.inputs:
        return PreparedVolume(next(iter(prepared.values())), grid)
    nothing = torch.zeros_like(next(iter(prepared.values())))
    return PreparedVolume(torch.cat([prepared.get(name, nothing) for name in manifest.inputs]), grid)


def classifier_input(
    contrasts: Contrasts, manifest: Manifest, cancel: CancelToken | None = None
) -> torch.Tensor:
    """Return a picture or a whole volume as a classifier takes it: ``(1, C, …)`` float32."""
    if not manifest.is_3d:
        return prepare_image(contrasts.first, manifest)
    prepared = prepare_contrasts(contrasts, manifest, cancel)
    return padded_whole(prepared.tensor, manifest.inference)[0][None]


def on_first_grid(volume: Volume, first: Volume) -> Volume:
    """Return a contrast on the first one's grid; outside of it lies its smallest value."""
    if volume.geometry.same_grid_as(first.geometry):
        return volume
    voxels = on_grid(volume.voxels.astype(np.float32), volume.geometry, first.geometry, order=1, outside=None)
    return replace(volume, geometry=first.geometry, voxels=voxels, sop_instance_uids=(), frame_numbers=())
