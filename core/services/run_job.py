"""The job that runs a model on a series: gate, worker, measures, read-back, storage."""

from __future__ import annotations

import functools
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from core.bundles.bundle import Bundle
from core.bundles.contrasts import Assignment
from core.bundles.manifest import Manifest
from core.domain.errors import BugError, InputError
from core.domain.progress import CancelToken, Progress
from core.domain.result import ClassProbability, MeasuredValue, ModelResult
from core.domain.segmentation import Segmentation
from core.domain.study import SeriesSummary
from core.domain.volume import Volume
from core.jobs.messages import RunModelTask, Task, VolumeSpec
from core.jobs.shared_arrays import SharedArray
from core.jobs.specs import volume_spec_of
from core.services.contrasts_of_study import SharedContrasts, assigned, inputs_of, share_others
from core.services.engine import Engine
from core.services.geometry_gate import check_series, check_volume
from core.services.job_kinds import Blocks, RunnableModel, find_bundle, taken_out
from core.services.list_studies import get_series, get_study
from core.services.load_volume import load_volume
from core.services.measure import find_all, measure_segments
from core.services.read_back import check_label_map
from core.services.results import store_result

LOG = logging.getLogger(__name__)


class RunJob:
    """Run ``model_id`` on ``series_key``.

    Parameters
    ----------
    engine : Engine
        The home.
    request : dict
        ``model_id``, ``series_key``, ``device``; ``contrasts`` (input → series) where the reader named them,
        ``with_text`` when a report was given.
    volume : Volume or None
        The series if it is in memory already.
    text : str or None
        The report.
    """

    def __init__(
        self, engine: Engine, request: dict[str, Any], volume: Volume | None, text: str | None = None
    ) -> None:
        self._engine = engine
        self._model_id: str = request["model_id"]
        self._series_key: str = request["series_key"]
        self._device: str = request.get("device", "auto")
        self._volume = volume
        self._chosen: dict[str, str] = request.get("contrasts", {})
        self._with_text: bool = request.get("with_text", False)
        self._text = text
        self._contrasts: Assignment | None = None
        self._blocks = Blocks(engine)
        self._labels: SharedArray | None = None
        self._bundle: RunnableModel | None = None
        self._series: SeriesSummary | None = None
        self._checks: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._begun_s = time.monotonic()

    @property
    def title(self) -> str:
        """The model's title."""
        return self._bundle.manifest.title if self._bundle is not None else self._model_id

    def prepare(self, progress: Progress, cancel: CancelToken) -> Task:
        """Pass the gate, load the series, share it."""
        self._bundle = self._found()
        manifest = self._bundle.manifest
        self._series, _ = get_series(self._engine, self._series_key)
        self._check_text()
        study = get_study(self._engine, self._series.study_uid).series if manifest.inputs else ()
        self._checks = check_series(manifest, self._series, study, self._chosen)
        self._contrasts = assigned(manifest, self._series, study, self._chosen)
        begun_s = time.monotonic()
        if self._volume is None:
            self._volume = load_volume(self._engine, self._series.key, progress=progress, cancel=cancel)
        self._seconds["series"] = time.monotonic() - begun_s
        self._checks |= check_volume(manifest, self._volume)
        cancel.raise_if_cancelled()
        spec = volume_spec_of(self._volume, self._blocks.share(self._volume.voxels))
        contrasts = self._shared_contrasts(manifest, progress, cancel)
        if manifest.structures:
            self._labels = self._blocks.reserve(self._volume.geometry.shape_kji, "u1")
        return self._task(spec, contrasts)

    def _found(self) -> RunnableModel:
        return find_bundle(self._engine, self._model_id)

    def _task(self, spec: VolumeSpec, contrasts: SharedContrasts) -> Task:
        assert isinstance(self._bundle, Bundle)
        return RunModelTask(
            str(self._bundle.path),
            spec,
            self._device,
            None if self._labels is None else self._labels.spec,
            str(self._engine.paths.bundles / ".probe"),
            contrasts.name,
            contrasts.others,
            self._text,
        )

    def attached(self) -> None:
        """Remove the names of the arrays."""
        self._blocks.unlink()

    def finish(self, outcome: dict[str, Any], commit: Callable[[], None]) -> dict[str, Any]:
        """Measure, find, read back, store."""
        assert self._bundle is not None and self._series is not None and self._volume is not None
        begun_s = time.monotonic()
        segmentation = self._segmentation(self._bundle, self._volume, outcome)
        self._blocks.close()
        result = self._result(self._bundle, self._volume, self._series, segmentation, outcome)
        self._seconds["measure"] = time.monotonic() - begun_s
        self._seconds["total"] = time.monotonic() - self._begun_s
        result.seconds.update(self._seconds)
        check = None
        if segmentation is not None:
            check = functools.partial(check_label_map, segmentation=segmentation, measures=result.segments)
        commit()
        store_result(self._engine, result, segmentation, check_file=check)
        LOG.info("result %s of %s stored", result.result_id, self._bundle.id)
        return {"result_id": result.result_id, "device": result.device, "fallbacks": list(result.fallbacks)}

    def release(self) -> None:
        """Give everything back."""
        self._blocks.close()
        self._volume = None

    def _shared_contrasts(
        self, manifest: Manifest, progress: Progress, cancel: CancelToken
    ) -> SharedContrasts:
        if self._contrasts is None:
            return SharedContrasts()
        first, *others = self._contrasts.series.items()
        keys = {name: series.key for name, series in others}
        return share_others(self._engine, manifest, first[0], keys, self._blocks, progress, cancel)

    def _check_text(self) -> None:
        if self._with_text and self._text is None:
            raise InputError(
                "run.text_lost",
                "The report of this run was kept in memory only, and the application was started anew since.",
                "Run the model again with the report.",
            )

    def _segmentation(
        self, bundle: RunnableModel, volume: Volume, outcome: dict[str, Any]
    ) -> Segmentation | None:
        if not outcome.get("has_labels"):
            return None
        if self._labels is None:
            raise BugError("run.unexpected_labels", f"{self.title} gave a label map that nobody asked for.")
        return Segmentation(volume.geometry, taken_out(self._labels), bundle.segments)

    def _result(
        self,
        bundle: RunnableModel,
        volume: Volume,
        series: SeriesSummary,
        segmentation: Segmentation | None,
        outcome: dict[str, Any],
    ) -> ModelResult:
        manifest = bundle.manifest
        classes = tuple(ClassProbability(**item) for item in outcome.get("classes", ()))
        in_set = tuple(outcome.get("prediction_set", ()))
        segments = () if segmentation is None else measure_segments(volume, segmentation)
        findings = find_all(manifest, volume, segmentation, segments, classes, in_set)
        notes = () if self._contrasts is None else self._contrasts.notes
        return ModelResult(
            result_id=uuid.uuid4().hex,
            study_uid=series.study_uid,
            series_uid=series.key,
            model=bundle.identity,
            task=manifest.task,
            device=outcome.get("device", ""),
            fallbacks=(*notes, *outcome.get("fallbacks", ())),
            segments=segments,
            classes=classes,
            prediction_set=in_set,
            uncertainty=outcome.get("uncertainty"),
            out_of_distribution=outcome.get("out_of_distribution"),
            findings=findings,
            seconds=dict(outcome.get("seconds", {})),
            peak_rss_mb=outcome.get("peak_rss_mb"),
            checks=self._checks,
            measurements=_measured(manifest, outcome),
            inputs=inputs_of(manifest, self._contrasts),
        )


def _measured(manifest: Manifest, outcome: dict[str, Any]) -> tuple[MeasuredValue, ...]:
    """Return what was measured; name, unit and code are the manifest's, the values must be numbers.

    Raises
    ------
    BugError
        ``run.measurements`` for another number of values, or one that is none.
    """
    values = [item.get("value") for item in outcome.get("measurements", ())]
    if len(values) != len(manifest.measurements) or any(not isinstance(value, float) for value in values):
        raise BugError(
            "run.measurements", f"The worker measured {len(values)} values of {len(manifest.measurements)}."
        )
    return tuple(
        MeasuredValue(item.name, value, item.unit, item.code.concept() if item.code else None)
        for item, value in zip(manifest.measurements, values, strict=True)
    )
