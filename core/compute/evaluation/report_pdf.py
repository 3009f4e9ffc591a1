"""The report as PDF (A4), with reportlab and the fonts that ship with the program."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from html import escape

from reportlab.lib.colors import HexColor, white
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    Image,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from core.compute.evaluation.plots import Picture
from core.compute.evaluation.report_content import INTENDED_USE, Cell, ReportContent, TableBlock
from core.config.resources import resource_path

_REGULAR, _BOLD = "OverreadEvaluation", "OverreadEvaluationBold"
_INK, _QUIET, _LINE, _BAND = (HexColor(c) for c in ("#1b2733", "#5b6875", "#dde3e8", "#f4f6f8"))
_GOOD, _GOOD_BAND, _BAD, _BAD_BAND = (HexColor(c) for c in ("#0a6b4b", "#e6f4ee", "#9c3a00", "#fcefe5"))
_MARGIN = 16 * mm


def pdf_of(content: ReportContent, pictures: Sequence[Picture]) -> bytes:
    """Return the report's bytes."""
    _register_fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=15 * mm,
        bottomMargin=18 * mm,
        title=content.title,
        author="Overread",
        subject=INTENDED_USE,
    )
    width = document.width - 12
    story: list[Flowable] = [
        _text(content.title, "title"),
        _text(content.subtitle, "warning"),
        Spacer(0, 2 * mm),
        _facts(content, width),
        Spacer(0, 3 * mm),
        _verdict(content, width),
    ]
    for block in content.tables:
        story += _block(block, width)
    story += _pictures(pictures, width)
    for block in content.after:
        story += _block(block, width)
    story.append(
        KeepTogether([_text("Notes", "heading"), *(_text(f"– {n}", "quiet") for n in content.notes)])
    )
    document.build(story, onFirstPage=_footer, onLaterPages=_footer)
    return buffer.getvalue()


@cache
def _register_fonts() -> None:
    pdfmetrics.registerFont(TTFont(_REGULAR, str(resource_path("report/DejaVuSans.ttf"))))
    pdfmetrics.registerFont(TTFont(_BOLD, str(resource_path("report/DejaVuSans-Bold.ttf"))))
    pdfmetrics.registerFontFamily(_REGULAR, normal=_REGULAR, bold=_BOLD, italic=_REGULAR, boldItalic=_BOLD)


@cache
def _style(name: str) -> ParagraphStyle:
    base = {"fontName": _REGULAR, "fontSize": 7.6, "leading": 10, "textColor": _INK}
    extra = {
        "body": {},
        "number": {"alignment": TA_RIGHT},
        "good": {"fontName": _BOLD, "textColor": _GOOD},
        "bad": {"fontName": _BOLD, "textColor": _BAD},
        "badnumber": {"fontName": _BOLD, "textColor": _BAD, "alignment": TA_RIGHT},
        "goodnumber": {"fontName": _BOLD, "textColor": _GOOD, "alignment": TA_RIGHT},
        "quiet": {"fontSize": 7, "leading": 9.4, "textColor": _QUIET},
        "head": {"fontName": _BOLD, "fontSize": 7, "leading": 9, "textColor": _QUIET},
        "headnumber": {
            "fontName": _BOLD,
            "fontSize": 7,
            "leading": 9,
            "textColor": _QUIET,
            "alignment": TA_RIGHT,
        },
        "title": {"fontName": _BOLD, "fontSize": 16, "leading": 20},
        "heading": {"fontName": _BOLD, "fontSize": 10.5, "leading": 14, "spaceBefore": 10, "spaceAfter": 4},
        "warning": {"fontName": _BOLD, "textColor": _BAD},
        "verdictgood": {"fontName": _BOLD, "fontSize": 10.5, "leading": 14, "textColor": _GOOD},
        "verdictbad": {"fontName": _BOLD, "fontSize": 10.5, "leading": 14, "textColor": _BAD},
        "verdictnone": {"textColor": _QUIET},
    }[name]
    return ParagraphStyle(name, **{**base, **extra})


def _text(text: str, style: str = "body") -> Paragraph:
    return Paragraph(escape(text), _style(style))


def _facts(content: ReportContent, width: float) -> Table:
    rows = [[_text(name, "quiet"), _text(value)] for name, value in content.facts]
    style = TableStyle([
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ])  # fmt: skip
    return Table(rows, colWidths=[0.18 * width, 0.82 * width], style=style)


def _verdict(content: ReportContent, width: float) -> Table:
    state = {None: "none", True: "good", False: "bad"}[content.verdict]
    band = {"none": _BAND, "good": _GOOD_BAND, "bad": _BAD_BAND}[state]
    style = TableStyle([
        ("BACKGROUND", (0, 0), (-1, -1), band),
        ("TOPPADDING", (0, 0), (-1, -1), 6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 7),
        ("LEFTPADDING", (0, 0), (-1, -1), 9),
        ("ROUNDEDCORNERS", [4, 4, 4, 4]),
    ])  # fmt: skip
    return Table([[_text(content.verdict_text, f"verdict{state}")]], colWidths=[width], style=style)


def _block(block: TableBlock, width: float) -> list[Flowable]:
    numeric = [any(row[n].number for row in block.rows) for n in range(len(block.head))]
    head = [_text(t, "headnumber" if numeric[n] else "head") for n, t in enumerate(block.head)]
    rows = [head, *([_cell(cell) for cell in row] for row in block.rows)]
    style = TableStyle([
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("BACKGROUND", (0, 0), (-1, 0), _BAND),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
        ("TOPPADDING", (0, 0), (-1, -1), 2.2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.6),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 5),
    ])  # fmt: skip
    total = sum(block.widths)
    table = Table(rows, colWidths=[width * w / total for w in block.widths], repeatRows=1, style=style)
    note: list[Flowable] = [Spacer(0, 1 * mm), _text(block.note, "quiet")] if block.note else []
    whole = [_text(block.title, "heading"), table, *note]
    # A short table stays with its heading; a long one may break between rows.
    return [KeepTogether(whole)] if len(rows) <= 16 else whole


def _cell(cell: Cell) -> Paragraph:
    style = f"{cell.mark}{'number' if cell.number else ''}" or "body"
    quiet = f'<br/><font size="6" color="#5b6875">{escape(cell.quiet)}</font>' if cell.quiet else ""
    return Paragraph(escape(cell.text) + quiet, _style(style))


def _pictures(pictures: Sequence[Picture], width: float) -> list[Flowable]:
    """Lay narrow pictures out in pairs, wide ones alone."""
    out: list[Flowable] = []
    pair: list[list[Flowable]] = []
    gap = 6 * mm
    half = (width - gap) / 2

    def flush() -> None:
        if pair:
            cells = [*pair, *([[Spacer(0, 0)]] * (2 - len(pair)))]
            style = TableStyle([
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                ("BACKGROUND", (0, 0), (-1, -1), white),
            ])  # fmt: skip
            out.append(Table([[cells[0], "", cells[1]]], colWidths=[half, gap, half], style=style))
            pair.clear()

    for picture in pictures:
        if picture.wide:
            flush()
            out.append(KeepTogether([Spacer(0, 3 * mm), *_picture(picture, width, 84 * mm)]))
        else:
            pair.append(_picture(picture, half, 92 * mm))
            if len(pair) == 2:
                flush()
    flush()
    return out


def _picture(picture: Picture, width: float, height: float) -> list[Flowable]:
    image = Image(io.BytesIO(picture.png))
    scale = min(width / image.imageWidth, height / image.imageHeight)
    image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
    return [_text(picture.title, "heading"), image, Spacer(0, 1 * mm), _text(picture.caption, "quiet")]


def _footer(canvas: Canvas, document: SimpleDocTemplate) -> None:
    canvas.saveState()
    canvas.setFont(_REGULAR, 6.5)
    canvas.setFillColor(_QUIET)
    canvas.drawString(_MARGIN, 10 * mm, INTENDED_USE)
    canvas.drawRightString(A4[0] - _MARGIN, 10 * mm, f"{document.page}")
    canvas.restoreState()
