"""Measurements and contrasts of a result in the index, and results of before there were any."""

from __future__ import annotations

import json

from core.domain.coding import CodedConcept
from core.domain.result import MeasuredValue, ModelIdentity, ModelResult
from core.library.documents import result_from_json, result_to_json

RESULT = ModelResult(
    "r1",
    "study",
    "series",
    ModelIdentity("brain-mr", "1.0.0", "ab" * 32, "Brain"),
    "multitask",
    "cpu",
    measurements=(
        MeasuredValue("Ventricles", 41.25, "mL", CodedConcept("118565006", "SCT", "Volume")),
        MeasuredValue("Fraction", 77.5, "%"),
    ),
    inputs={"T1": "series", "FLAIR": ""},
)


def test_measurements_and_contrasts_survive() -> None:
    assert result_from_json(result_to_json(RESULT)) == RESULT


def test_a_result_of_an_earlier_version_has_none() -> None:
    document = json.loads(result_to_json(RESULT))
    for field in ("measurements", "inputs"):
        del document[field]
    earlier = result_from_json(json.dumps(document))
    assert earlier.measurements == () and earlier.inputs == {}
