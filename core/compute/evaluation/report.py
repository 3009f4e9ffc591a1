"""The report of an evaluation: ``metrics.json``, ``report.html`` (one file, no links) and ``report.pdf``."""

from __future__ import annotations

import json
from pathlib import Path

from core.compute.evaluation.assess import Evaluation
from core.compute.evaluation.plots import draw_pictures
from core.compute.evaluation.report_content import content_of
from core.compute.evaluation.report_html import html_of
from core.compute.evaluation.report_pdf import pdf_of
from core.config.atomic import atomic_write_bytes
from core.domain.errors import EnvironmentFault


def write_report(evaluation: Evaluation, out: Path) -> dict[str, Path]:
    """Write the three files; what an earlier evaluation left there is replaced.

    Returns
    -------
    dict
        ``metrics_json``, ``report_html``, ``report_pdf``: paths.

    Raises
    ------
    EnvironmentFault
        ``evaluation.unwritable``.
    """
    content = content_of(evaluation)
    pictures = draw_pictures(evaluation)
    document = json.dumps(evaluation.document(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        "metrics_json": (out / "metrics.json", document.encode()),
        "report_html": (out / "report.html", html_of(content, pictures).encode()),
        "report_pdf": (out / "report.pdf", pdf_of(content, pictures)),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, data in files.values():
            atomic_write_bytes(path, data)
    except OSError as error:
        raise EnvironmentFault(
            "evaluation.unwritable",
            f"The report can't be written: {error.strerror or type(error).__name__}.",
            "Choose another folder or free some space.",
        ) from error
    return {name: path for name, (path, _) in files.items()}
