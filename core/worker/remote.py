"""Has a model server run its model. No compute library is loaded for it.

Nothing of an answer is taken over that doesn't belong to the question: the model must be the one that was listed, the
label map must lie on the series, and every name and value must be one that the model is known to give.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import BugError, InputError
from core.domain.progress import CancelToken, Progress
from core.domain.volume import Volume
from core.formats.nifti_wire import image_bytes, label_map_of
from core.jobs import server_refusals as refusals
from core.jobs.messages import RunRemoteTask, ServerSpec
from core.jobs.served import ModelInfo, Prediction
from core.jobs.server_address import checked_address
from core.jobs.server_client import Patience, Question, ServerClient, label_map_bytes
from core.jobs.specs import geometry_of, volume_of
from core.worker.attached import AttachedArrays

_PACKED, _SENT, _ANSWERED = 0.02, 0.04, 0.9
"""Nobody knows how long a server takes: until it answers the bar stays where no remaining time is guessed."""
_MB = 1 << 20
_NOTES = 8
_SUM_TOLERANCE = 1e-3


def run_remote(
    task: RunRemoteTask,
    arrays: AttachedArrays,
    progress: Progress,
    cancel: CancelToken,
    patience: Patience | None = None,
) -> dict[str, Any]:
    """Send the volumes, check the answer and fill ``labels_out``.

    Returns
    -------
    dict
        As ``core.worker.dispatch.run_model``; ``device`` is ``"server NAME"``.

    Raises
    ------
    AppError
        ``engine.…``: the server can't be reached, refuses, has another model than listed, or its answer doesn't
        belong to the question. Nothing is kept then.
    Cancelled
        When ``cancel`` was set.
    """
    begun_s = time.monotonic()
    server = task.server
    client = client_of(server, patience)
    progress(f"Asking {server.name}", 0.0)
    info = client.model_info()
    require_listed(server, info)
    cancel.raise_if_cancelled()
    progress("Preparing the image", 0.01)
    files = {name: image_bytes(volume, single=task.single) for name, volume in _volumes(task, arrays).items()}
    _require_room(info, sum(map(len, files.values())))
    cancel.raise_if_cancelled()
    prediction = _asked(client, task, files, progress, cancel)
    require_listed(server, client.model_info())
    progress("Checking the answer", _ANSWERED)
    labels = _labels(task, prediction)
    outcome = outcome_of(task, prediction)
    if labels is not None and task.labels_out is not None:
        arrays.view(task.labels_out, writeable=True)[...] = labels
    outcome["seconds"]["total"] = time.monotonic() - begun_s
    return outcome | {"has_labels": labels is not None}


def client_of(server: ServerSpec, patience: Patience | None = None) -> ServerClient:
    """Return a client of a server; the address is checked again."""
    address = checked_address(
        server.name, server.url, server.token, ca_file=server.ca_file, allow_plain=server.allow_plain
    )
    return ServerClient(address, patience)


def require_listed(server: ServerSpec, info: ModelInfo) -> None:
    """Refuse another model than the one that was listed.

    Raises
    ------
    SafetyError
        ``engine.other_model``.
    """
    if (info.id, info.version, info.sha256) != (server.model_id, server.model_version, server.model_sha256):
        same = (info.id, info.version) == (server.model_id, server.model_version)
        found = "other weights of the same version" if same else f"{info.id[:63]} {info.version[:20]}"
        raise refusals.other_model(server.name, f"{server.model_id} {server.model_version}", found)


def outcome_of(task: RunRemoteTask, prediction: Prediction) -> dict[str, Any]:
    """Return an answer's numbers after each was checked.

    Raises
    ------
    EnvironmentFault
        ``engine.answer``: a name that the model doesn't have, one that is missing, or a value that can't be.
    """
    name = task.server.name
    if prediction.model_version != f"v{task.server.model_version}":
        raise refusals.other_model(
            name, f"{task.server.model_id} {task.server.model_version}", prediction.model_version[:24]
        )
    chances = prediction.probabilities
    if set(chances) != set(task.classes) or not all(0.0 <= value <= 1.0 for value in chances.values()):
        raise refusals.not_understood(name, "its classes")
    if chances and abs(sum(chances.values()) - 1.0) > _SUM_TOLERANCE:
        raise refusals.not_understood(name, "its probabilities, which don't add up")
    if not set(prediction.prediction_set) <= set(task.classes):
        raise refusals.not_understood(name, "its prediction set")
    measured = [(one.name, one.value) for one in prediction.measurements]
    if tuple(label for label, _ in measured) != task.measurements or not _all_finite(
        value for _, value in measured
    ):
        raise refusals.not_understood(name, "its measurements")
    ranked = sorted(chances.items(), key=lambda item: -item[1])
    return {
        "classes": [{"label": label, "probability": value} for label, value in ranked],
        "prediction_set": list(prediction.prediction_set),
        "uncertainty": _finite(prediction.uncertainty),
        "out_of_distribution": _finite(prediction.out_of_distribution),
        "device": f"server {name}",
        "backend": refusals.plain(prediction.engine),
        "fallbacks": [f"{name}: {refusals.plain(note)}" for note in prediction.notes[:_NOTES] if note],
        "seconds": {"server": max(0.0, _finite(prediction.inference_time_ms) or 0.0) / 1000.0},
        "peak_rss_mb": None,
        "measurements": [{"name": label, "value": value} for label, value in measured],
    }


def _asked(
    client: ServerClient,
    task: RunRemoteTask,
    files: Mapping[str, bytes],
    progress: Progress,
    cancel: CancelToken,
) -> Prediction:
    name = task.server.name

    def sent(share: float) -> None:
        if share < 1.0:
            progress(f"Sending to {name}, {int(share * 10) * 10} %", _PACKED + (_SENT - _PACKED) * share)
        else:
            progress(f"Waiting for {name}", _SENT)

    voxels = math.prod(task.volume.grid.shape_kji)
    question = Question(files, task.text, bool(task.structures), answer_bytes=8 * _MB + 2 * voxels)
    return client.predict(question, cancel, sent)


def _volumes(task: RunRemoteTask, arrays: AttachedArrays) -> dict[str, Volume]:
    """Return what is sent, by the form's field."""
    volume = volume_of(task.volume, arrays.view(task.volume.voxels))
    if not task.contrast:
        return {"file": volume}
    others = {
        f"contrast.{other.name}": volume_of(other.volume, arrays.view(other.volume.voxels))
        for other in task.others
    }
    return {f"contrast.{task.contrast}": volume, **others}


def _require_room(info: ModelInfo, size: int) -> None:
    """Refuse what is larger than the server says it takes, before it is sent."""
    if size > info.max_upload_bytes:
        raise InputError(
            "engine.too_large",
            f"The series has {size >> 20} MB packed; the server takes {info.max_upload_bytes >> 20} MB.",
            "Run a model of this computer, or have the server's limit (--max-upload-mb) raised.",
        )


def _labels(task: RunRemoteTask, prediction: Prediction) -> NDArray[np.uint8] | None:
    data = label_map_bytes(prediction, task.server.name)
    if not task.structures:
        return None
    if data is None:
        raise refusals.not_understood(task.server.name, "it holds no label map")
    if task.labels_out is None:
        raise BugError("jobs.bad_output", "There is no room for the label map.")
    return label_map_of(data, geometry_of(task.volume.grid), frozenset(task.structures))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _all_finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)
