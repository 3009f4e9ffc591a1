"""The job that has a server run its model: gate, measures, read-back and storage are those of a local run."""

from __future__ import annotations

from core.jobs.messages import RunRemoteTask, Task, VolumeSpec
from core.jobs.server_address import on_server
from core.services.contrasts_of_study import SharedContrasts
from core.services.job_kinds import RunnableModel
from core.services.remote_engine import spec_of
from core.services.remote_models import RemoteModel, find_remote
from core.services.run_job import RunJob


class RemoteRunJob(RunJob):
    """Run the model of ``server:NAME/MODEL`` on a series; the worker process talks to the server."""

    @property
    def title(self) -> str:
        """The model's title and where it runs."""
        model = self._bundle
        if isinstance(model, RemoteModel):
            return on_server(model.entry.name, model.manifest.title)
        return self._model_id

    def _found(self) -> RunnableModel:
        return find_remote(self._engine, self._model_id)

    def _task(self, spec: VolumeSpec, contrasts: SharedContrasts) -> Task:
        model = self._bundle
        assert isinstance(model, RemoteModel)
        manifest = model.manifest
        return RunRemoteTask(
            spec_of(self._engine, model.entry),
            spec,
            not manifest.is_3d,
            tuple(label.value for label in manifest.structures),
            tuple(label.name for label in manifest.image_classes),
            tuple(item.name for item in manifest.measurements),
            None if self._labels is None else self._labels.spec,
            contrasts.name,
            contrasts.others,
            self._text,
        )
