"""Model cards and licences: templates beside the recipes, filled with measured numbers."""

from __future__ import annotations

from collections.abc import Mapping

from core.config.resources import shipped_root

Metric = float | list[float] | str
_MARK = "{{METRICS}}"


def card_text(name: str, metrics: Mapping[str, Metric]) -> str:
    """Return ``models/recipes/<name>.card.md`` with the table of metrics in its place."""
    template = _read(f"{name}.card.md")
    return template.replace(_MARK, metrics_table(metrics))


def licence_text(name: str) -> str:
    """Return ``models/recipes/<name>.licence.txt``."""
    return _read(f"{name}.licence.txt")


def metrics_table(metrics: Mapping[str, Metric]) -> str:
    """Return a Markdown table; [value, low, high] is shown as value with its 95 % interval."""
    lines = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for key, value in metrics.items():
        name = key.replace("_", " ")
        if isinstance(value, list) and len(value) == 3:
            lines.append(f"| {name} | {value[0]:.3f} | {value[1]:.3f} … {value[2]:.3f} |")
        elif isinstance(value, float):
            lines.append(f"| {name} | {value:g} | |")
        else:
            lines.append(f"| {name} | {value} | |")
    return "\n".join(lines)


def _read(file: str) -> str:
    return (shipped_root() / "models" / "recipes" / file).read_text(encoding="utf-8")
