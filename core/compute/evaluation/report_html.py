"""The report as one HTML file: no script, no link, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from core.compute.evaluation.plots import Picture
from core.compute.evaluation.report_content import Cell, ReportContent, TableBlock

_STYLE = """
:root { color-scheme: light; --ink: #1b2733; --quiet: #5b6875; --line: #dde3e8; --band: #f4f6f8; --accent: #0072b2;
  --good: #0a6b4b; --good-band: #e6f4ee; --bad: #9c3a00; --bad-band: #fcefe5; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 14px/1.5 Inter, "Segoe UI", system-ui, sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; font-weight: 600; }
h2 { font-size: 16px; margin: 36px 0 8px; font-weight: 600; }
.use { color: var(--bad); font-weight: 600; margin: 0 0 20px; }
.verdict { border-radius: 8px; padding: 14px 18px; margin: 20px 0; font-size: 17px; font-weight: 600; }
.verdict.good { background: var(--good-band); color: var(--good); }
.verdict.bad { background: var(--bad-band); color: var(--bad); }
.verdict.none { background: var(--band); color: var(--quiet); font-weight: 400; font-size: 14px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; background: var(--band); color: var(--quiet); font-size: 12px; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
td small { display: block; color: var(--quiet); font-size: 11px; }
td.good { color: var(--good); font-weight: 600; }
td.bad { color: var(--bad); font-weight: 600; }
.note { color: var(--quiet); font-size: 12px; margin: 6px 0 0; }
.pictures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 24px; margin-top: 16px; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: 14px; break-inside: avoid; }
figure.wide { grid-column: 1 / -1; }
figure h3 { margin: 0 0 8px; font-size: 14px; font-weight: 600; }
figure img { display: block; max-width: 100%; max-height: 620px; margin: 0 auto; }
figcaption { color: var(--quiet); font-size: 12px; margin-top: 8px; }
ul { padding-left: 18px; color: var(--quiet); font-size: 13px; }
@media (max-width: 720px) { .pictures { grid-template-columns: minmax(0, 1fr); } }
@media print { main { padding: 0; max-width: none; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""


def html_of(content: ReportContent, pictures: Sequence[Picture]) -> str:
    """Return the document; every text is escaped."""
    state = {None: "none", True: "good", False: "bad"}[content.verdict]
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in content.facts)
    notes = "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    shown = "".join(_figure(p) for p in pictures)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(content.title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{escape(content.title)}</h1><p class="use">{escape(content.subtitle)}</p><dl>{facts}</dl>'
        f'<div class="verdict {state}">{escape(content.verdict_text)}</div>'
        + "".join(_table(block) for block in content.tables)
        + (f'<h2>Pictures</h2><div class="pictures">{shown}</div>' if shown else "")
        + "".join(_table(block) for block in content.after)
        + f"<h2>Notes</h2><ul>{notes}</ul></main></body></html>\n"
    )


def _table(block: TableBlock) -> str:
    numeric = [any(row[n].number for row in block.rows) for n in range(len(block.head))]
    head = "".join(
        f'<th scope="col"{" class=number" if numeric[n] else ""}>{escape(text)}</th>'
        for n, text in enumerate(block.head)
    )
    rows = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in block.rows)
    note = f'<p class="note">{escape(block.note)}</p>' if block.note else ""
    return (
        f'<section><h2>{escape(block.title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}</section>"
    )


def _cell(cell: Cell) -> str:
    names = " ".join(n for n in ("number" if cell.number else "", cell.mark) if n)
    quiet = f"<small>{escape(cell.quiet)}</small>" if cell.quiet else ""
    return f"<td{f' class={chr(34)}{names}{chr(34)}' if names else ''}>{escape(cell.text)}{quiet}</td>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    wide = ' class="wide"' if picture.wide else ""
    return (
        f'<figure{wide}><h3>{escape(picture.title)}</h3><img alt="{escape(picture.title)}: '
        f'{escape(picture.caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )
