"""The report of a result as PDF, with reportlab. No identity in it: the pseudonym names the study."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
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

from core.config.atomic import atomic_path
from core.config.resources import resource_path
from core.config.version import app_version
from core.domain.errors import EnvironmentFault
from core.domain.result import Finding, Verdict, unit_shown
from core.export.exported import ExportedFile, differs
from core.export.identifiers import INTENDED_USE, file_stem
from core.export.report_facts import ReportFacts

_INK, _QUIET, _LINE, _BAND = (HexColor(c) for c in ("#1b2733", "#5b6875", "#c9d1d9", "#f2f5f8"))
_REGULAR, _BOLD = "OverreadReport", "OverreadReportBold"
# Fonts of PDF viewers for scripts that the shipped font lacks: (first, last code point, font).
_EAST_ASIAN = (
    (0xAC00, 0xD7AF, "HYSMyeongJo-Medium"),
    (0x3040, 0x30FF, "HeiseiMin-W3"),
    (0x2E80, 0x9FFF, "STSong-Light"),
)
_VERDICTS = {
    Verdict.ACCEPT: "accepted",
    Verdict.REJECT: "rejected",
    Verdict.EDIT: "edited",
    Verdict.UNSURE: "unsure",
    None: "not reviewed",
}


@dataclass(frozen=True)
class KeyPicture:
    """A picture in the report: PNG bytes and what it shows."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class ReportHead:
    """What stands above the findings. ``audit_head`` is the hash of the audit chain's last record."""

    pseudonym: str
    study_description: str
    study_month: str
    series_description: str
    modality: str
    images: int
    created_utc: str
    audit_events: int = 0
    audit_head: str = ""
    pictures: tuple[KeyPicture, ...] = field(default_factory=tuple)


def write_pdf(facts: ReportFacts, head: ReportHead, out: Path) -> ExportedFile:
    """Write the report and read it back; ``ExportedFile`` of kind ``pdf``.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written.
    SafetyError
        If the file read back differs.
    """
    content = build_pdf(facts, head)
    path = out / f"{file_stem('report', facts.result.result_id)}.pdf"
    try:
        with atomic_path(path) as part:
            part.write_bytes(content)
            if part.read_bytes() != content or not content.startswith(b"%PDF-"):
                raise differs("pdf", "the document")
    except OSError as error:
        raise EnvironmentFault(
            "export.unwritable",
            f"The export folder cannot be written ({error.strerror or type(error).__name__}).",
            "Choose another folder or free some space.",
        ) from error
    return ExportedFile("pdf", path, "", True)


def build_pdf(facts: ReportFacts, head: ReportHead) -> bytes:
    """Return the report as the bytes of a PDF (A4)."""
    _register_fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=18 * mm,
        bottomMargin=20 * mm,
        title="Overread report",
        author="Overread",
        subject=INTENDED_USE,
    )
    width = document.width - 12  # the frame's own padding, 6 points on each side
    story: list[Flowable] = [
        _text("Report of computer-assisted findings", "title"),
        _text(INTENDED_USE, "warning"),
        Spacer(0, 3 * mm),
        _head_table(facts, head, width),
        Spacer(0, 5 * mm),
        *_findings(facts, width),
        *_classes(facts, width),
        *_measured(facts, width),
        *_pictures(head.pictures, width),
        *_provenance(facts, head, width),
    ]
    document.build(story, onFirstPage=_footer, onLaterPages=_footer)
    return buffer.getvalue()


@cache
def _register_fonts() -> None:
    """Load the shipped font (Latin, Greek, Cyrillic, Hebrew, Arabic letters) and the viewers' own for the rest."""
    pdfmetrics.registerFont(TTFont(_REGULAR, str(resource_path("report/DejaVuSans.ttf"))))
    pdfmetrics.registerFont(TTFont(_BOLD, str(resource_path("report/DejaVuSans-Bold.ttf"))))
    pdfmetrics.registerFontFamily(_REGULAR, normal=_REGULAR, bold=_BOLD, italic=_REGULAR, boldItalic=_BOLD)
    for *_, name in _EAST_ASIAN:
        pdfmetrics.registerFont(UnicodeCIDFont(name))


@cache
def _style(name: str) -> ParagraphStyle:
    """Return one of the report's text styles."""
    base = {"fontName": _REGULAR, "fontSize": 8.5, "leading": 11.5, "textColor": _INK}
    extra = {
        "body": {},
        "quiet": {"fontSize": 7.5, "leading": 10, "textColor": _QUIET},
        "number": {"alignment": TA_RIGHT},
        "bold": {"fontName": _BOLD},
        "title": {"fontName": _BOLD, "fontSize": 16, "leading": 20},
        "heading": {"fontName": _BOLD, "fontSize": 10.5, "leading": 14, "spaceBefore": 6, "spaceAfter": 3},
        "warning": {"fontName": _BOLD, "textColor": HexColor("#8a3b12")},
    }[name]
    return ParagraphStyle(name, **{**base, **extra})


def _text(text: str, style: str = "body") -> Paragraph:
    """Return a paragraph; runs of East Asian script are set in a font that has them."""
    return Paragraph(_marked_up(text), _style(style))


def _marked_up(text: str) -> str:
    """Escape text for reportlab and wrap characters that the shipped font lacks."""
    out = []
    for character in text:
        font = next((name for low, high, name in _EAST_ASIAN if low <= ord(character) <= high), None)
        out.append(f'<font name="{font}">{character}</font>' if font else escape(character))
    return "".join(out)


def _rows(rows: Sequence[Sequence[Flowable]], widths: Sequence[float], *, header: bool) -> Table:
    """Return a table with hairlines between the rows."""
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ]
    if header:
        style.append(("BACKGROUND", (0, 0), (-1, 0), _BAND))
    return Table(rows, colWidths=widths, repeatRows=1 if header else 0, style=TableStyle(style))


def _head_table(facts: ReportFacts, head: ReportHead, width: float) -> Table:
    """Name study, series and model."""
    model = facts.result.model
    pairs = (
        ("Study", f"{head.pseudonym}  {head.study_description}".strip()),
        ("Month", head.study_month or "unknown"),
        ("Series", f"{head.modality}  {head.series_description}, {head.images} images"),
        ("Model", f"{model.title or model.id} ({model.id}) {model.version}"),
        ("Reader", facts.reader or "not reviewed"),
    )
    rows = [[_text(name, "quiet"), _text(value)] for name, value in pairs]
    return _rows(rows, [0.16 * width, 0.84 * width], header=False)


def _findings(facts: ReportFacts, width: float) -> list[Flowable]:
    """Return the table of findings with the reader's verdicts."""
    findings = facts.spatial_findings()
    if not findings:
        return []
    names = ("Finding", "Volume ml", "Diameter mm", f"Mean {facts.units}", "Center L P S mm", "Verdict")
    header = [_text(name, "bold") for name in names]
    rows = [header, *(_finding_row(facts, finding) for finding in findings)]
    widths = [width * share for share in (0.29, 0.12, 0.13, 0.12, 0.19, 0.15)]
    return [_text("Findings", "heading"), _rows(rows, widths, header=True)]


def _finding_row(facts: ReportFacts, finding: Finding) -> list[Flowable]:
    """Return one row of the table of findings."""
    numbers = facts.numbers(finding)
    point = finding.centroid_lps_mm
    decision = facts.decisions.get(finding.id)
    verdict = _VERDICTS[facts.verdict(finding)]
    reason = f": {decision.reason}" if decision and decision.reason else ""
    return [
        _text(finding.label),
        _text(f"{numbers['volume_ml']:.1f}" if "volume_ml" in numbers else "", "number"),
        _text(f"{numbers['diameter_mm']:.1f}" if "diameter_mm" in numbers else "", "number"),
        _text(f"{numbers['mean']:.0f}" if "mean" in numbers else "", "number"),
        _text(" ".join(f"{value:.0f}" for value in point) if point else "", "number"),
        _text(verdict + reason),
    ]


def _classes(facts: ReportFacts, width: float) -> list[Flowable]:
    """Return the table of classes, the most probable first."""
    if not facts.result.classes:
        return []
    rows = [[_text(name, "bold") for name in ("Class", "Probability", "Verdict")]]
    for item in sorted(facts.result.classes, key=lambda c: -c.probability):
        finding = facts.finding_of_class(item.label)
        verdict = _VERDICTS[facts.verdict(finding)] if finding else ""
        rows.append([_text(item.label), _text(f"{item.probability:.3f}", "number"), _text(verdict)])
    table = _rows(rows, [0.5 * width, 0.2 * width, 0.3 * width], header=True)
    kept = ", ".join(facts.result.prediction_set)
    note = [_text(f"Prediction set: {kept}", "quiet")] if kept else []
    return [_text("Classification", "heading"), table, *note]


def _measured(facts: ReportFacts, width: float) -> list[Flowable]:
    """Return the table of what the model estimated for the whole image, and what it saw."""
    result = facts.result
    out: list[Flowable] = []
    if result.measurements:
        rows = [[_text(name, "bold") for name in ("Measurement", "Value", "Unit")]]
        for item in result.measurements:
            rows.append(
                [_text(item.name), _text(f"{item.value:.4g}", "number"), _text(unit_shown(item.unit))]
            )
        table = _rows(rows, [0.5 * width, 0.2 * width, 0.3 * width], header=True)
        out += [_text("Measurements of the whole image", "heading"), table]
    if result.inputs:
        used = ", ".join(name for name, key in result.inputs.items() if key)
        missing = ", ".join(name for name, key in result.inputs.items() if not key)
        out.append(_text(f"Contrasts used: {used}" + (f"; missing: {missing}" if missing else ""), "quiet"))
    return out


def _pictures(pictures: Sequence[KeyPicture], width: float) -> list[Flowable]:
    """Return the key pictures with captions, each on one page."""
    out: list[Flowable] = []
    for picture in pictures:
        image = Image(io.BytesIO(picture.png))
        scale = min(width / image.imageWidth, 110 * mm / image.imageHeight)
        image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
        out.append(KeepTogether([Spacer(0, 4 * mm), image, _text(picture.caption, "quiet")]))
    return out


def _provenance(facts: ReportFacts, head: ReportHead, width: float) -> list[Flowable]:
    """State what made the result, on what, and where the audit trail stood."""
    result = facts.result
    checks = "; ".join(f"{name}: {value}" for name, value in result.checks.items())
    pairs = (
        ("Result", f"{result.result_id}, computed {result.created_utc} on {result.device}"),
        ("Weights sha256", result.model.sha256),
        ("Checks", checks or "none recorded"),
        (
            "Audit trail",
            f"{head.audit_events} events, last record {head.audit_head}" if head.audit_head else "empty",
        ),
        ("Report", f"made {head.created_utc} by Overread {app_version()}"),
    )
    rows = [[_text(name, "quiet"), _text(value, "quiet")] for name, value in pairs]
    table = _rows(rows, [0.16 * width, 0.84 * width], header=False)
    return [KeepTogether([_text("Provenance", "heading"), table])]


def _footer(canvas: Canvas, document: SimpleDocTemplate) -> None:
    """Put the intended use and the page number on every page."""
    canvas.saveState()
    canvas.setFont(_REGULAR, 7)
    canvas.setFillColor(_QUIET)
    canvas.drawString(18 * mm, 11 * mm, INTENDED_USE)
    canvas.drawRightString(A4[0] - 18 * mm, 11 * mm, f"{document.page}")
    canvas.restoreState()
