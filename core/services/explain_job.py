"""The job that explains a class of a result: the same series, the same weights, a heat map in patient space."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from core.bundles.bundle import Bundle
from core.domain.errors import BugError, SafetyError
from core.domain.explanation import Explanation
from core.domain.progress import CancelToken, Progress
from core.domain.result import ModelResult
from core.domain.volume import Volume
from core.jobs.messages import ExplainTask
from core.jobs.shared_arrays import SharedArray
from core.jobs.specs import volume_spec_of
from core.services.contrasts_of_study import SharedContrasts, share_others
from core.services.engine import Engine
from core.services.geometry_gate import check_volume
from core.services.job_kinds import Blocks, find_bundle, taken_out
from core.services.load_volume import load_volume
from core.services.results import load_result, load_segmentation, store_explanation

LOG = logging.getLogger(__name__)


class ExplainJob:
    """Explain ``class_label`` of ``result_id`` by ``method``.

    Parameters
    ----------
    engine : Engine
        The home.
    request : dict
        ``result_id``, ``method``, ``class_label``, ``layer``, ``device``.
    volume : Volume or None
        The result's series if it is in memory already.
    """

    def __init__(self, engine: Engine, request: dict[str, Any], volume: Volume | None) -> None:
        self._engine = engine
        self._request = request
        self._result_id: str = request["result_id"]
        self._method: str = request["method"]
        self._volume = volume
        self._blocks = Blocks(engine)
        self._heat: SharedArray | None = None
        self._bundle: Bundle | None = None

    @property
    def title(self) -> str:
        """Method, class and model."""
        model = self._bundle.manifest.title if self._bundle is not None else "a result"
        wanted = self._request.get("class_label", "")
        return f"{self._method} of {f'{wanted}, ' if wanted else ''}{model}"

    def prepare(self, progress: Progress, cancel: CancelToken) -> ExplainTask:
        """Find the result's model, load its series, share both with the label map."""
        request = self._request
        result = load_result(self._engine, self._result_id)
        self._bundle = find_bundle(self._engine, result.model.id)
        if self._bundle.identity.sha256 != result.model.sha256:
            raise SafetyError(
                "explain.other_model",
                f"The result was made by {result.model.id} {result.model.version} with other weights than those "
                f"installed now ({self._bundle.manifest.version}).",
                "Run the installed model again and explain that result.",
            )
        if self._volume is None:
            self._volume = load_volume(self._engine, result.series_uid, progress=progress, cancel=cancel)
        check_volume(self._bundle.manifest, self._volume)
        cancel.raise_if_cancelled()
        segmentation = load_segmentation(self._engine, result.result_id)
        if segmentation is not None and not segmentation.geometry.same_grid_as(self._volume.geometry):
            raise SafetyError(
                "explain.other_grid",
                "The series no longer has the grid on which the result was made.",
                "Import the series again and run the model on it.",
            )
        contrasts = self._shared_contrasts(self._bundle, result, progress, cancel)
        self._heat = self._blocks.reserve(self._volume.geometry.shape_kji, "f4")
        return ExplainTask(
            str(self._bundle.path),
            volume_spec_of(self._volume, self._blocks.share(self._volume.voxels)),
            self._method,
            request.get("class_label", ""),
            self._heat.spec,
            request.get("layer", ""),
            None if segmentation is None else self._blocks.share(segmentation.labels),
            request.get("device", "auto"),
            contrasts.name,
            contrasts.others,
        )

    def _shared_contrasts(
        self, bundle: Bundle, result: ModelResult, progress: Progress, cancel: CancelToken
    ) -> SharedContrasts:
        """Share the contrasts that the result was made of."""
        if not result.inputs:
            return SharedContrasts()
        own = next(name for name, key in result.inputs.items() if key == result.series_uid)
        others = {name: key for name, key in result.inputs.items() if key and name != own}
        return share_others(self._engine, bundle.manifest, own, others, self._blocks, progress, cancel)

    def attached(self) -> None:
        """Remove the names of the arrays."""
        self._blocks.unlink()

    def finish(self, outcome: dict[str, Any], commit: Callable[[], None]) -> dict[str, Any]:
        """Store the heat map on the series' grid."""
        assert self._volume is not None and self._heat is not None
        heat = taken_out(self._heat)
        self._blocks.close()
        if not np.isfinite(heat).all() or heat.min() < -1e-6 or heat.max() > 1.0 + 1e-6:
            raise BugError("explain.bad_heat", "The heat map holds values outside 0…1.")
        x, y, z = outcome["resolution_mm"]
        explanation = Explanation(
            geometry=self._volume.geometry,
            heat=np.clip(heat, 0.0, 1.0),
            method=outcome["method"],
            class_label=outcome["class_label"],
            layer=outcome["layer"],
            resolution_mm=(float(x), float(y), float(z)),
            randomisation_correlation=outcome["randomisation_correlation"],
            sanity_passed=outcome["sanity_passed"],
            pointing_game=outcome["pointing_game"],
        )
        commit()
        explanation_id = store_explanation(self._engine, self._result_id, explanation)
        LOG.info("explanation %s stored", explanation_id)
        return {"result_id": self._result_id, "explanation_id": explanation_id, **outcome}

    def release(self) -> None:
        """Give everything back."""
        self._blocks.close()
        self._volume = None
