"""Semantic versions are ordered as the standard says, and references mean one thing."""

from __future__ import annotations

import pytest

from core.domain.errors import InputError
from core.registry.versions import check_alias, is_reference, parse_reference, parse_version


def test_the_order_of_the_standards_own_example() -> None:
    # Source: Semantic Versioning 2.0.0, section 11.
    order = [
        "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
        "1.0.0-rc.1", "1.0.0", "2.0.0", "2.1.0", "2.1.1",
    ]  # fmt: skip
    assert [str(v) for v in sorted(parse_version(text) for text in reversed(order))] == order


@pytest.mark.parametrize(
    "text", ["1", "1.2", "01.2.3", "1.2.3-", "1.2.3-01", "v1.2.3", "1.2.3+a", "1.2.3 ", ""]
)
def test_what_is_no_semantic_version_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no semantic version"):
        parse_version(text)


def test_references_name_an_alias_or_a_version() -> None:
    assert parse_reference("brain@production").alias == "production"
    assert parse_reference("brain@1.2.0-rc.1").version == "1.2.0-rc.1"
    assert is_reference("brain@production") and not is_reference("a/b@c") and not is_reference("brain")


@pytest.mark.parametrize("alias", ["latest", "v3", "1x", "Prod", "", "a b"])
def test_aliases_that_mlflow_or_people_would_misread_are_refused(alias: str) -> None:
    with pytest.raises(InputError, match="alias"):
        check_alias(alias)
