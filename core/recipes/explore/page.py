"""The report of a data set as one HTML file without scripts or outside references."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from core.config.atomic import atomic_write_bytes, atomic_write_text
from core.recipes.explore.pictures import PER_ROW, contact_sheet, histograms
from core.recipes.explore.report import DataReport, samples_by_channel

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --bar: #0072b2; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin: 0; } h2 { font-size: 1.15em; margin: 2em 0 .5em; }
.tiles { display: flex; flex-wrap: wrap; gap: 2em; margin: 1em 0; } .tiles b { display: block; font-size: 1.7em; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
th, td { padding: .3em .8em .3em 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.warn { border-left: 4px solid #d55e00; padding: .5em 1em; background: var(--soft); }
.warn ul { margin: 0; padding-left: 1.2em; }
.bar { background: var(--bar); height: .7em; min-width: 1px; } img { max-width: 100%; height: auto; }
figure { margin: 0; } figcaption { opacity: .75; font-size: .9em; } code { font-size: .9em; overflow-wrap: anywhere; }
"""


def write_report(report: DataReport, out: Path) -> dict[str, Path]:
    """Write ``report.html``, ``explore.json``, ``pictures.png`` and ``histograms.png``; return them by kind."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = contact_sheet(_titled(report))
    values = histograms(_groups(report))
    files = {
        "html": out / "report.html",
        "json": out / "explore.json",
        "pictures": out / "pictures.png",
        "histograms": out / "histograms.png",
    }
    document = report.document()
    atomic_write_bytes(files["pictures"], pictures)
    atomic_write_bytes(files["histograms"], values)
    atomic_write_text(files["json"], json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    atomic_write_text(files["html"], page(report, document, pictures, values))
    return files


def page(report: DataReport, document: dict[str, Any], pictures: bytes, values: bytes) -> str:
    """Return the HTML."""
    ratio = document["imbalance"]
    tiles = [("cases", document["cases"]), ("patients", document["patients"])]
    if document["classes"]:
        tiles += [("classes", len(document["classes"])), ("commonest : rarest", f"{ratio:.1f} : 1")]
    tiles += [("groups of alike cases", len(document["duplicates"]))]
    parts = [
        f"<h1>Data report: {escape(report.name)}</h1>",
        '<div class="tiles">'
        + "".join(f"<div><b>{escape(str(n))}</b>{t}</div>" for t, n in tiles)
        + "</div>",
        _warnings(document["warnings"]),
        _classes(document),
        _figure("Pictures", pictures, _caption(report)),
        _parts(document),
        _structures(document),
        _geometry(document),
        _figure("Values", values, "As they stand in the files, before any preprocessing."),
        _values(document),
        _attributes(document),
        _lists(document),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Data report: {escape(report.name)}</title>"
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _titled(report: DataReport) -> dict[str, Any]:
    rows = report.rows()
    if len(rows) == 1 and "" in rows:
        facts = rows[""]
        count = min(3, -(-len(facts) // PER_ROW))
        return {f"{len(facts)} cases" + " (more)" * bool(row): facts[row::count] for row in range(count)}
    return {f"{name or 'without a class'} ({len(facts)} looked at)": facts for name, facts in rows.items()}


def _groups(report: DataReport) -> dict[str, Any]:
    """Return the values to compare: by class where there are classes, else by channel."""
    rows = report.rows()
    if len(rows) < 2:
        return samples_by_channel(report.looked_at)
    return {
        name: np.concatenate([values for one in facts for values in one.samples.values()])
        for name, facts in rows.items()
    }


def _caption(report: DataReport) -> str:
    masked = any(facts.marks is not None for facts in report.looked_at)
    lines = "Masks are drawn as outlines on the slice that holds most of them. " if masked else ""
    return f"{lines}Some cases of each row, evenly spaced; contrast from the slice's 0.5 % to its 99.5 %."


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return "<p>Nothing unusual was found.</p>"
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<div class="warn"><ul>{items}</ul></div>'


def _classes(document: dict[str, Any]) -> str:
    rows = document["classes"]
    if not rows:
        return ""
    most = max(row["cases"] for row in rows)
    cells = [
        [
            row["name"],
            row["cases"],
            row["patients"],
            _Html(f'<div class="bar" style="width:{100 * row["cases"] / most:.1f}%"></div>'),
        ]
        for row in rows
    ]
    return "<h2>Classes</h2>" + _table(["class", "cases", "patients", ""], cells)


def _parts(document: dict[str, Any]) -> str:
    parts = document["parts"]
    if not parts:
        return ""
    names = [row["name"] for row in document["classes"]]
    cells = [
        [part, one["cases"], one["patients"], *(one["classes"].get(name, 0) for name in names)]
        for part, one in parts.items()
    ]
    return "<h2>Division</h2>" + _table(["part", "cases", "patients", *names], cells)


def _structures(document: dict[str, Any]) -> str:
    rows = [
        [
            one["name"],
            one["value"],
            f"{one['cases']} of {one['of']}",
            f"{one['median_voxels']:,.0f}",
            _number(one["median_ml"]),
        ]
        for one in document["structures"]
    ]
    head = ["structure", "value", "cases", "median voxels", "median ml"]
    return "<h2>Structures</h2>" + _table(head, rows) if rows else ""


def _geometry(document: dict[str, Any]) -> str:
    rows = []
    for one in document["geometry"][:20]:
        k, j, i = one["shape_kji"]
        spacing = one["spacing_ijk_mm"]
        size = f"{i} × {j}" + (f" × {k}" if k > 1 else "")
        place = "not stated" if spacing is None else " × ".join(f"{mm:g}" for mm in spacing)
        rows.append([size, place, one["orientation"] or "–", one["modality"], one["cases"]])
    more = len(document["geometry"]) - 20
    note = f"<p>… and {more} more.</p>" if more > 0 else ""
    head = ["size (i × j × k)", "spacing in mm", "orientation", "modality", "cases"]
    return "<h2>Geometry</h2>" + _table(head, rows) + note


def _values(document: dict[str, Any]) -> str:
    rows = [
        [channel, *(_number(one[key]) for key in ("minimum", "maximum", "mean", "std")),
         *(_number(v) for v in one["percentiles"].values())]
        for channel, one in document["values"].items()
    ]  # fmt: skip
    head = ["channel", "minimum", "maximum", "mean", "deviation", "0.5 %", "5 %", "50 %", "95 %", "99.5 %"]
    return _table(head, rows)


def _attributes(document: dict[str, Any]) -> str:
    rows = [
        [name, ", ".join(f"{value}: {count}" for value, count in counts.items())]
        for name, counts in document["attributes"].items()
    ]
    return "<h2>Attributes</h2>" + _table(["attribute", "cases by value"], rows) if rows else ""


def _lists(document: dict[str, Any]) -> str:
    out = ""
    if document["duplicates"]:
        items = "".join(
            f"<li><code>{escape(', '.join(ids[:12]))}</code></li>" for ids in document["duplicates"][:50]
        )
        out += f"<h2>Cases that look alike</h2><ul>{items}</ul>"
    if document["unreadable"]:
        rows = [[case, why] for case, why in list(document["unreadable"].items())[:50]]
        out += "<h2>Unreadable cases</h2>" + _table(["case", "why"], rows)
    if document["issues"]:
        out += "<h2>Remarks of the readers</h2>" + _table(
            ["code", "cases"], [list(i) for i in document["issues"].items()]
        )
    return out


class _Html(str):
    """Text that is HTML already."""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    rows = list(rows)
    numeric = [
        all(isinstance(row[n], int | float) or _looks_numeric(row[n]) for row in rows)
        for n in range(len(head))
    ]
    kind = [' class="n"' if number else "" for number in numeric]
    top = "".join(f"<th{k}>{escape(name)}</th>" for k, name in zip(kind, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{_cell(cell)}</td>" for k, cell in zip(kind, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _cell(cell: Any) -> str:
    return str(cell) if isinstance(cell, _Html) else escape(str(cell))


def _looks_numeric(cell: Any) -> bool:
    return (
        isinstance(cell, str)
        and not isinstance(cell, _Html)
        and cell.replace(",", "").lstrip("-").replace(".", "").isdecimal()
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"


def _figure(title: str, png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<h2>{title}</h2><figure><img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
