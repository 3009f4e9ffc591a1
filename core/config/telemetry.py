"""Libraries that report their use to their makers are kept from it: nothing leaves the computer unasked."""

from __future__ import annotations

import os

_OFF = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def refuse_telemetry() -> None:
    """Switch the telemetry of MLflow, Ray, albumentations and transformers off, for this process and its children.

    Call it before the library is imported; what the environment says already is overruled.
    """
    os.environ.update(_OFF)
