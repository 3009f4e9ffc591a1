"""What may stand in an audit record's detail: an allow-list, so that identity can't slip in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from core.domain.errors import BugError

ALLOWED_KEYS = frozenset(
    {
        "alias", "anchors", "as", "backend", "by", "candidate_id", "cases", "ci_high", "ci_low", "class_label",
        "copies", "count", "days", "decision_id", "device", "difference", "epochs", "error_code", "events",
        "explanation_id", "fallbacks", "files", "finding_id", "findings", "first_bad_seq", "formats", "from",
        "from_sha256", "from_version", "full", "gates", "hits", "input_sha256", "instances", "job_id", "kind",
        "kinds", "layer", "layout", "method", "metric", "missing", "modality", "mode", "model_id",
        "model_sha256", "model_version", "ok", "orphans", "output_sha256", "passed", "patients", "queries",
        "query_length", "reason_given", "result_id", "results", "run_id", "schema", "seconds", "segments",
        "series", "setting", "skipped", "slices", "state", "status", "studies", "task", "test_cases", "to",
        "to_sha256", "to_version", "undeleted", "verdict", "verification", "verified", "with_mask",
    }
)  # fmt: skip
MAX_TEXT = 160
# Printable ASCII but for the caret, which parts the names of persons in DICOM.
_TEXT = re.compile(r"[ -\]_-~]*")

Detail = Mapping[str, str | int | float | bool]
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_detail(detail: Detail) -> str:
    """Return the canonical JSON of a detail.

    Raises
    ------
    BugError
        If a key isn't on the allow-list, or a value is neither a number nor a short plain text
        (code ``audit.detail``). The operation that wanted to record it fails.
    """
    for key, value in detail.items():
        if key not in ALLOWED_KEYS:
            raise _refusal(key, "isn't on the allow-list")
        if isinstance(value, str):
            if len(value) > MAX_TEXT or not _TEXT.fullmatch(value):
                raise _refusal(key, "isn't a short plain text")
        elif not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
            raise _refusal(key, "isn't a finite number, a truth value or a text")
    return _encoder.encode(dict(detail))


def _refusal(key: str, why: str) -> BugError:
    return BugError(
        "audit.detail", f"The audit detail {key!r} {why}; the operation was not done.", "Report this fault."
    )
