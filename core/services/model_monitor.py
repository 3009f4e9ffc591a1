"""Whether models still do what they did: readers' agreement week by week, and drift of what goes in and comes out.

Looked at are numbers that every stored result carries: volumes and mean values of segments, probabilities, how unusual
the input was. A recent window is held against everything before it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import AppError
from core.domain.result import Decision, ModelResult, Verdict
from core.domain.training import AgreementRow, DriftRow, ModelMonitor, MonitorAlert
from core.services.edited_segmentation import edited_labels
from core.services.engine import Engine
from core.services.results import load_segmentation
from core.services.training_cases import standing

LOG = logging.getLogger(__name__)
PSI_LIMIT = 0.25
"""Above it a distribution has shifted. Source: N. Siddiqi, Credit Risk Scorecards, 2006, chapter 9."""
P_LIMIT = 0.01
LEAST = 20
"""Fewer results on either side say nothing."""
BINS = 10
RATE_DROP = 0.15
_SMALL = 1e-4


def watch_models(
    engine: Engine, model_id: str | None = None, *, window_days: int = 30, now: datetime | None = None
) -> ModelMonitor:
    """Return agreement by model, version and week (oldest first), drift, and what a person should look at.

    Parameters
    ----------
    model_id : str, optional
        One model only.
    window_days : int
        Results of so many days up to ``now`` are recent; earlier ones are the reference.
    """
    with engine.unit_of_work(writes=False) as uow:
        results = uow.results.of_model(model_id)
        decisions = uow.decisions.of_results([result.result_id for result in results])
    verdicts = {key: standing(found) for key, found in decisions.items()}
    agreement = _agreement(engine, results, verdicts)
    since = (now or datetime.now(UTC)) - timedelta(days=window_days)
    drift = _drift(results, since)
    titles = {result.model.id: result.model.title or result.model.id for result in results}
    alerts = (
        *_agreement_alerts(results, verdicts, since, titles),
        *_drift_alerts(drift, titles, window_days),
    )
    return ModelMonitor(agreement, drift, alerts)


def population_stability(
    reference: NDArray[np.float64], window: NDArray[np.float64], bins: int = BINS
) -> float:
    """Return the population stability index Σ (w − r) ln (w / r) over bins of equal reference share.

    Parameters
    ----------
    reference, window : numpy.ndarray
        ``(n,)`` and ``(m,)`` finite float64.

    Source: N. Siddiqi 2006; shares below 0.01 % count as that.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = []
    for values in (reference, window):
        counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
        shares.append(np.maximum(counts / max(len(values), 1), _SMALL))
    r, w = shares
    return float(np.sum((w - r) * np.log(w / r)))


# -- agreement -----------------------------------------------------------------------------------


def _agreement(
    engine: Engine, results: Sequence[ModelResult], verdicts: Mapping[str, Mapping[str, Decision]]
) -> tuple[AgreementRow, ...]:
    overlaps = _overlaps(engine, results, verdicts)
    groups: dict[tuple[str, str, str], list[tuple[ModelResult, Decision]]] = {}
    for result in results:
        for decision in verdicts.get(result.result_id, {}).values():
            key = (result.model.id, result.model.version, week_of(decision.decided_utc))
            groups.setdefault(key, []).append((result, decision))
    rows = []
    for (model_id, version, week), found in sorted(groups.items()):
        counts = {verdict: sum(d.verdict is verdict for _, d in found) for verdict in Verdict}
        dice = [overlaps[d.decision_id] for _, d in found if overlaps.get(d.decision_id) is not None]
        rows.append(
            AgreementRow(
                model_id,
                found[0][0].model.title or model_id,
                version,
                week,
                len(found),
                counts[Verdict.ACCEPT],
                counts[Verdict.EDIT],
                counts[Verdict.REJECT],
                counts[Verdict.UNSURE],
                float(np.mean([value for value in dice if value is not None])) if dice else None,
            )
        )
    return tuple(rows)


def week_of(utc: str) -> str:
    """Return the ISO week of a time: ``"2026-W07"``."""
    year, week, _ = datetime.fromisoformat(utc).isocalendar()
    return f"{year}-W{week:02d}"


def _overlaps(
    engine: Engine, results: Sequence[ModelResult], verdicts: Mapping[str, Mapping[str, Decision]]
) -> dict[str, float | None]:
    """Return the Dice of edits by decision; those that are new are worked out and kept."""
    edits = {
        decision.decision_id: (result, decision)
        for result in results
        for decision in verdicts.get(result.result_id, {}).values()
        if decision.verdict is Verdict.EDIT and decision.mask_file
    }
    with engine.unit_of_work(writes=False) as uow:
        known = uow.overlaps.of(list(edits))
    new = {key: _overlap(engine, *edit) for key, edit in edits.items() if key not in known}
    if new:
        with engine.unit_of_work() as uow:
            uow.overlaps.keep(new)
    return known | new


def _overlap(engine: Engine, result: ModelResult, decision: Decision) -> float | None:
    """Return the Dice between the model's and the reader's mask of a finding; None when one can't be read."""
    finding = next((f for f in result.findings if f.id == decision.finding_id), None)
    if finding is None or finding.segment_value is None:
        return None
    try:
        before = load_segmentation(engine, result.result_id)
        if before is None:
            return None
        after, _ = edited_labels(engine, result, before, {finding.id: decision})
    except AppError as error:
        LOG.info("an edit could not be compared with its model's mask (%s)", error.code)
        return None
    a, b = before.labels == finding.segment_value, after.labels == finding.segment_value
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def _agreement_alerts(
    results: Sequence[ModelResult],
    verdicts: Mapping[str, Mapping[str, Decision]],
    since: datetime,
    titles: Mapping[str, str],
) -> list[MonitorAlert]:
    """Tell of models whose recent findings are accepted clearly less often than the earlier ones."""
    from scipy.stats import fisher_exact

    alerts = []
    for model_id in sorted({result.model.id for result in results}):
        decided = [
            decision
            for result in results
            if result.model.id == model_id
            for decision in verdicts.get(result.result_id, {}).values()
        ]
        recent = [d for d in decided if datetime.fromisoformat(d.decided_utc) >= since]
        before = [d for d in decided if datetime.fromisoformat(d.decided_utc) < since]
        if min(len(recent), len(before)) < LEAST:
            continue
        now_ok, then_ok = (sum(d.verdict is Verdict.ACCEPT for d in group) for group in (recent, before))
        rate, earlier = now_ok / len(recent), then_ok / len(before)
        table = [[now_ok, len(recent) - now_ok], [then_ok, len(before) - then_ok]]
        if earlier - rate > RATE_DROP and fisher_exact(table, alternative="less").pvalue < P_LIMIT:
            alerts.append(
                MonitorAlert(
                    model_id,
                    "agreement",
                    f"Readers accept {rate:.0%} of what {titles[model_id]} finds; it was {earlier:.0%} before.",
                )
            )
    return alerts


# -- drift ---------------------------------------------------------------------------------------


def summary_of(result: ModelResult) -> dict[str, tuple[str, float]]:
    """Return the numbers of a result that are watched: name → (``"input"`` or ``"output"``, value)."""
    found: dict[str, tuple[str, float | None]] = {
        "unusual input": ("input", result.out_of_distribution),
        "uncertainty": ("output", result.uncertainty),
    }
    for segment in result.segments:
        found[f"volume of {segment.label} (ml)"] = ("output", segment.volume_ml)
        found[f"mean of {segment.label}"] = ("input", segment.mean_hu)
    for item in result.classes:
        found[f"probability of {item.label}"] = ("output", item.probability)
    for measured in result.measurements:
        found[f"{measured.name} ({measured.unit})"] = ("output", measured.value)
    if result.classes:
        found["highest probability"] = ("output", max(item.probability for item in result.classes))
    found["findings"] = ("output", float(len(result.findings)))
    return {
        name: (kind, float(value))
        for name, (kind, value) in found.items()
        if value is not None and math.isfinite(value)
    }


def _drift(results: Sequence[ModelResult], since: datetime) -> tuple[DriftRow, ...]:
    values: dict[tuple[str, str, str], tuple[list[float], list[float]]] = {}
    for result in results:
        recent = bool(result.created_utc) and datetime.fromisoformat(result.created_utc) >= since
        for name, (kind, value) in summary_of(result).items():
            values.setdefault((result.model.id, name, kind), ([], []))[recent].append(value)
    rows = [
        _row(model_id, name, kind, np.array(before), np.array(recent))
        for (model_id, name, kind), (before, recent) in sorted(values.items())
        if min(len(before), len(recent)) >= LEAST
    ]
    return tuple(rows)


def _row(
    model_id: str, name: str, kind: str, before: NDArray[np.float64], recent: NDArray[np.float64]
) -> DriftRow:
    from scipy.stats import ks_2samp

    psi = population_stability(before, recent)
    test = ks_2samp(before, recent)
    p = float(test.pvalue)
    return DriftRow(
        model_id,
        name,
        kind,
        len(before),
        len(recent),
        float(before.mean()),
        float(recent.mean()),
        psi,
        float(test.statistic),
        p,
        psi > PSI_LIMIT and p < P_LIMIT,
    )


def _drift_alerts(
    drift: Sequence[DriftRow], titles: Mapping[str, str], window_days: int
) -> list[MonitorAlert]:
    return [
        MonitorAlert(
            row.model_id,
            f"drift.{row.kind}",
            f"{titles[row.model_id]}: the {row.feature} of the last {window_days} days is on average "
            f"{row.window_mean:.3g} where it was {row.reference_mean:.3g} (stability index {row.psi:.2f}).",
        )
        for row in drift
        if row.alert
    ]
