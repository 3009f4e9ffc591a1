"""What was measured of every form of a model: the choice, and the table for people and programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.compute.deploy.engines import Variant

LOSS_ALLOWED = 0.01
WORTH = 1.15
QUALITIES = ("accuracy", "dice", "numbers")
_HEADINGS = ("Form", "Size (MB)", "Latency (ms)", "× torch", "Largest difference", "Quality", "n", "Choice")


def choose(variants: Sequence[Variant]) -> Variant:
    """Mark the fastest form that keeps the model's answers, and say of each other one why not.

    A form of the same weights in float32 keeps them. Any other must lose at most one point of accuracy, Dice or
    numbers on real cases, and be 1.15 times as fast as the fastest exact form to be worth it; without cases it isn't
    chosen.
    """
    base = variants[0]
    for variant in variants:
        variant.chosen, variant.reason = False, ""
    exact = min((v for v in variants if v.exact), key=lambda v: v.fastest_ms)
    for variant in variants:
        if not variant.exact:
            variant.reason = _against(variant, base, exact)
    kept = [variant for variant in variants if not variant.reason]
    best = min(kept, key=lambda v: v.fastest_ms)
    for variant in kept:
        if variant is not best:
            variant.reason = _slower(variant, base) or f"slower than {best.title}"
    best.chosen, best.reason = True, "fastest that keeps the answers"
    return best


def _against(variant: Variant, base: Variant, exact: Variant) -> str:
    """Return what speaks against a form that isn't exact; empty when nothing does."""
    loss = lost(variant, base)
    if loss is None:
        return _slower(variant, base) or "not judged: no cases with a known answer were given"
    if loss > LOSS_ALLOWED:
        return f"loses {100 * loss:.1f} points"
    if slow := _slower(variant, base):
        return slow
    if variant.fastest_ms * WORTH > exact.fastest_ms:
        return f"not faster enough than {exact.title}"
    return ""


def lost(variant: Variant, base: Variant) -> float | None:
    """Return the largest loss of quality against the first form (0…1); None where nothing was measured."""
    both = [base.quality[name] - variant.quality[name] for name in base.quality if name in variant.quality]
    return max(both) if both else None


def _slower(variant: Variant, base: Variant) -> str:
    ratio = variant.fastest_ms / base.fastest_ms
    return f"{ratio:.1f} times as slow as torch" if ratio > 1.0 and variant is not base else ""


def rows_of(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Return the table as JSON values; what wasn't measured is null."""
    base = variants[0]
    return [
        {
            "name": v.name,
            "title": v.title,
            "size_mb": round(v.size_mb, 4),
            "latency_ms": _number(v.latency_ms),
            "latency_ratio": _number(v.fastest_ms / base.fastest_ms),
            "max_abs_difference": _number(v.difference),
            **{name: v.quality.get(name) for name in QUALITIES},
            "cases": v.cases,
            "chosen": v.chosen,
            "reason": v.reason,
        }
        for v in variants
    ]


def column(variants: Sequence[Variant], name: str) -> dict[str, Any]:
    """Return one column of the table by form."""
    return {row["name"]: row[name] for row in rows_of(variants)}


def markdown(title: str, document: Mapping[str, Any]) -> str:
    """Return the report: the table, what was pruned, what to know."""
    lines = [f"# {title}", "", _row(_HEADINGS), _row(["---"] * len(_HEADINGS))]
    lines += [_row(_cells(row)) for row in document["table"]]
    lines += [
        "",
        f"Latency: median of one call on {document['input']['shape']} ({document['input']['source']}), "
        f"{document['threads']} threads, the forms in turn; × torch: of the fastest calls. Quality: accuracy of the "
        "classes, Dice of the structures, numbers: 1 less their mean error in standard deviations.",
    ]
    pruning = document.get("pruning")
    if pruning:
        lines += ["", "## Pruning", ""]
        lines += [
            f"- {label}: {pruning[key]['before']:,} → {pruning[key]['after']:,}"
            for key, label in (("parameters", "parameters"), ("operations", "multiply-adds"))
        ]
        lines += [
            f"- gate {gate['name']}: {'passed' if gate['passed'] else 'NOT passed'}"
            for gate in pruning["gates"]
        ]
    if document["notes"]:
        lines += ["", "## To know", "", *(f"- {note}" for note in document["notes"])]
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    quality = [f"{name} {row[name]:.4f}" for name in QUALITIES if row[name] is not None]
    return [
        str(row["title"]),
        f"{row['size_mb']:.2f}",
        _shown(row["latency_ms"], ".2f"),
        _shown(row["latency_ratio"], ".2f"),
        _shown(row["max_abs_difference"], ".1e"),
        ", ".join(quality) or "–",
        str(row["cases"]),
        ("**chosen**: " if row["chosen"] else "not chosen: ") + str(row["reason"]),
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
