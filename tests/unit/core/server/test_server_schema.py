"""The application keeps what its OpenAPI document says, whatever is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fakes.served_app import AUTHORIZED, FakePredictor, app_over

schemathesis: Any = pytest.importorskip("schemathesis", reason="needs overread[dev]")
from schemathesis.specs.openapi import checks  # noqa: E402


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/model/info"),
        ("GET", "/metrics"),
        ("POST", "/predict"),
        ("POST", "/predict/batch"),
    ],
)
def test_answers_are_those_of_the_schema(method: str, path: str, tmp_path: Path) -> None:
    app = app_over(FakePredictor(), tmp_path, docs=True)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    @given(case=schema[path][method].as_strategy())
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        # Who needs a token is tested beside this, and that a file is an image can't be said in a schema.
        case.call_and_validate(
            headers=AUTHORIZED, excluded_checks=[checks.ignored_auth, checks.positive_data_acceptance]
        )

    check()
