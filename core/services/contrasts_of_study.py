"""The further contrasts of a run: which series they are, their voxels, and the checks that they passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.bundles.contrasts import Assignment
from core.bundles.fit import contrasts_for
from core.bundles.manifest import Manifest
from core.domain.progress import CancelToken, Progress
from core.domain.study import SeriesSummary
from core.jobs.messages import ContrastSpec
from core.jobs.specs import volume_spec_of
from core.services.engine import Engine
from core.services.geometry_gate import check_volume
from core.services.job_kinds import Blocks
from core.services.load_volume import load_volume


@dataclass(frozen=True)
class SharedContrasts:
    """What goes into the task beside the first volume.

    Attributes
    ----------
    name : str
        Which input the first volume is; empty for a model that takes one series.
    others : tuple of ContrastSpec
        The rest, shared.
    """

    name: str = ""
    others: tuple[ContrastSpec, ...] = ()


def assigned(
    manifest: Manifest,
    series: SeriesSummary,
    study: Sequence[SeriesSummary],
    chosen: Mapping[str, str] | None = None,
) -> Assignment | None:
    """Return which series of the study are the model's inputs, None for a model that takes one series.

    Raises
    ------
    InputError
        ``run.contrast`` for an input or a series that doesn't exist.
    """
    if not manifest.inputs:
        # A name that was given all the same is refused, with the model's title.
        if chosen:
            contrasts_for(manifest, series, (), chosen)
        return None
    return contrasts_for(manifest, series, study, chosen)


def share_others(
    engine: Engine,
    manifest: Manifest,
    name: str,
    keys: Mapping[str, str],
    blocks: Blocks,
    progress: Progress,
    cancel: CancelToken,
) -> SharedContrasts:
    """Load, check and share every contrast but the first.

    Parameters
    ----------
    name : str
        Which input the first volume is.
    keys : mapping of str to str
        Input → key of its series, of the others.

    Raises
    ------
    SafetyError
        ``geometry.…`` when one can't be measured.
    """
    others = []
    for other, key in keys.items():
        cancel.raise_if_cancelled()
        volume = load_volume(engine, key, progress=progress, cancel=cancel)
        check_volume(manifest, volume)
        others.append(ContrastSpec(other, volume_spec_of(volume, blocks.share(volume.voxels))))
    return SharedContrasts(name, tuple(others))


def inputs_of(manifest: Manifest, found: Assignment | None) -> dict[str, str]:
    """Return input → key of its series, empty for one that is missing, in the manifest's order."""
    if found is None:
        return {}
    return {name: found.series[name].key if name in found.series else "" for name in manifest.inputs}
