"""Agreement of readers with models over time, and drift of what their results carry."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from core.domain.result import Decision, Verdict
from core.services.engine import Engine
from core.services.model_monitor import population_stability, summary_of, watch_models, week_of
from core.services.results import store_result
from tests.fakes.engines import insert_study, make_engine, model_result
from tests.fakes.verdicts import (
    SEGMENTATION,
    add_segmentation_model,
    add_segmentation_result,
    add_series,
    correct,
    truth_of,
)

NOW = datetime(2026, 6, 30, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    yield engine
    engine.close()


def decided(engine: Engine, number: int, verdict: Verdict, when: datetime, volume_ml: float = 1.0) -> None:
    result = model_result(f"r{number}", findings=1)
    segment = dataclasses.replace(result.segments[0], volume_ml=volume_ml)
    result = dataclasses.replace(
        result, segments=(segment,), created_utc=when.isoformat(timespec="milliseconds")
    )
    store_result(engine, result)
    with engine.unit_of_work() as uow:
        uow.decisions.add(
            Decision(
                f"d{number}", f"r{number}", "f1", verdict, "reader", when.isoformat(timespec="milliseconds")
            )
        )


def test_verdicts_are_counted_by_week_and_version(engine: Engine) -> None:
    insert_study(engine)
    monday = datetime(2026, 6, 1, 8, tzinfo=UTC)
    for number, verdict in enumerate(("accept", "accept", "reject", "unsure")):
        decided(engine, number, Verdict(verdict), monday + timedelta(days=number))
    decided(engine, 9, Verdict.EDIT, monday + timedelta(days=7))
    first, second = watch_models(engine, now=NOW).agreement
    assert (first.week, first.findings, first.accepted, first.rejected, first.unsure) == (
        "2026-W23",
        4,
        2,
        1,
        1,
    )
    assert (first.accept_rate, first.reject_rate) == (0.5, 0.25)
    assert (second.week, second.edited, second.edit_rate, second.mean_dice) == ("2026-W24", 1, 1.0, None)
    assert week_of("2027-01-01T00:00:00.000+00:00") == "2026-W53"


def test_the_overlap_of_a_correction_is_the_dice_of_the_two_masks(engine: Engine, tmp_path: Path) -> None:
    bundle = add_segmentation_model(engine)
    series = add_series(engine, tmp_path / "in", 1)
    truth = truth_of(engine, series)
    wrong = np.roll(truth, 1, axis=1)
    result = add_segmentation_result(engine, bundle, series, wrong)
    bone = next(f for f in result.findings if f.segment_value == 2)
    correct(engine, result, bone.id, truth, tmp_path / "in")
    a, b = wrong == 2, truth == 2
    expected = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert 0.3 < expected < 0.95
    for _ in range(2):  # the second time from the library
        (row,) = watch_models(engine, SEGMENTATION, now=NOW).agreement
        assert row.mean_dice == pytest.approx(expected)


def test_a_fall_of_agreement_is_told(engine: Engine) -> None:
    insert_study(engine)
    for number in range(40):
        decided(engine, number, Verdict.ACCEPT if number % 10 else Verdict.REJECT, NOW - timedelta(days=60))
    for number in range(40, 80):
        decided(engine, number, Verdict.ACCEPT if number % 2 else Verdict.REJECT, NOW - timedelta(days=3))
    (alert,) = watch_models(engine, now=NOW).alerts
    assert alert.code == "agreement"
    assert "50%" in alert.message and "90%" in alert.message


def test_a_shift_of_volumes_is_told_and_steady_ones_are_not(engine: Engine) -> None:
    insert_study(engine)
    rng = np.random.default_rng(3)
    for number in range(60):
        recent = number >= 30
        when = NOW - timedelta(days=2 if recent else 90)
        decided(
            engine, number, Verdict.ACCEPT, when, volume_ml=float(rng.normal(20.0 if recent else 10.0, 1.0))
        )
    found = watch_models(engine, now=NOW)
    rows = {row.feature: row for row in found.drift}
    volume = rows["volume of left lung (ml)"]
    assert volume.alert and (volume.reference, volume.window, volume.kind) == (30, 30, "output")
    assert volume.ks == 1.0
    assert not rows["findings"].alert and rows["findings"].psi == pytest.approx(0.0, abs=1e-9)
    assert [alert.code for alert in found.alerts] == ["drift.output"]
    assert watch_models(engine, "other", now=NOW).drift == ()


def test_few_results_say_nothing(engine: Engine) -> None:
    insert_study(engine)
    for number in range(19):
        decided(engine, number, Verdict.ACCEPT, NOW - timedelta(days=90), 1.0)
        decided(engine, 100 + number, Verdict.ACCEPT, NOW - timedelta(days=1), 99.0)
    assert watch_models(engine, now=NOW).drift == ()


def test_the_stability_index_is_the_formula_of_the_book() -> None:
    reference = np.repeat([1.0, 2.0], 50)
    window = np.repeat([1.0, 2.0], [20, 80])
    expected = (0.2 - 0.5) * math.log(0.2 / 0.5) + (0.8 - 0.5) * math.log(0.8 / 0.5)
    assert population_stability(reference, window, bins=2) == pytest.approx(expected)
    rng = np.random.default_rng(0)
    same = rng.normal(size=2000)
    assert population_stability(same, same) == pytest.approx(0.0, abs=1e-12)
    assert population_stability(same, rng.normal(size=2000)) < 0.02
    assert population_stability(same, rng.normal(1.0, size=2000)) > 0.25


def test_what_a_result_carries_is_finite_numbers(engine: Engine) -> None:
    result = dataclasses.replace(model_result(), out_of_distribution=0.4, uncertainty=float("nan"))
    found = summary_of(result)
    assert found["unusual input"] == ("input", 0.4)
    assert "uncertainty" not in found
    assert found["highest probability"] == ("output", 0.75)
    assert found["mean of left lung"] == ("input", -800.0)
