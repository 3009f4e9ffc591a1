"""Writes ``docs/import-table.md``: what is seen of every file of the real test data, and how it compares with peers.

``python docs/make_import_table.py`` from the root of the repository. Needs the test data (``OVERREAD_TEST_DATA``) and,
for all comparisons, dcm2niix.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from core.dicom.assemble import assemble_volume  # noqa: E402
from core.dicom.part10 import parse_file  # noqa: E402
from core.domain.errors import AppError  # noqa: E402
from core.domain.study import ScannedSeries, SeriesKind, SkippedFile  # noqa: E402
from core.services.scan_sources import scan_sources  # noqa: E402
from tests.fakes.data import data_root  # noqa: E402
from tests.fakes.geometry_peers import largest_difference_mm, our_grid, peers_of  # noqa: E402

FOLDERS = ("core/dicom", "core/nifti", "core/images2d", "core/models", "large/dicom")
HEAD = "| from | what | syntax | shown as | size × time points | spacing (mm) | what a reader is told | compared |"
EXPLAINED = {
    "large/dicom/ct-head-ge-tilt": "each file states its place: steps of 4.002, 6.999 and 1.081 mm, tilt 18.5°. "
    "SimpleITK takes 5.627 mm for all and no tilt, dcm2niix the first step for all; straightened here, slices equal "
    "their files (correlation above 0.99)",
    "core/dicom/mr-brain-pd-papaya": "steps of 6.958 to 7.071 mm: the mean keeps the ends of the stack in their "
    "place; a sideways drift of 0.06 mm is rounding and evened out; dcm2niix takes the first step for all",
    "core/dicom/mr-mosaic-siemens-nih/mr": "SimpleITK shows the tiles as one image",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan the data, ask the peers and write the table."""
    parser = argparse.ArgumentParser(description="Write the table of what is imported.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "import-table.md")
    asked = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    lines = [
        "# What is seen of the real test data",
        "",
        "Made by `docs/make_import_table.py`. Each line is one series as the worklist shows it; below them stands what",
        "is refused, with the reason that a reader sees. *Compared* is the largest distance between the corners of our",
        "grid (as acquired) and that of SimpleITK or dcm2niix, after bringing the axes into one order.",
        "",
    ]
    for folder in FOLDERS:
        if (data_root() / folder).is_dir():
            lines += _section(folder)
    asked.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 0


def _section(folder: str) -> list[str]:
    root = data_root() / folder
    with tempfile.TemporaryDirectory(prefix="overread-table-") as name:
        work = Path(name)
        found = scan_sources([root], work / "zip")
        rows: dict[str, list[str]] = {}
        pictures: Counter[str] = Counter()
        for number, series in enumerate(found.series):
            place = series.instances[0].file.relative_to(root)
            if series.source_format == "image":
                pictures[str(place.parent)] += series.summary.instances
                continue
            rows[f"{place}#{number}"] = [_line(place, series, work / str(number))]
    lines = [f"## {folder}", ""]
    if rows:
        lines += [HEAD, "|" + "---|" * 8, *(row for key in sorted(rows) for row in rows[key]), ""]
    lines += [
        f"- `{place}`: {count} pictures, without a size in millimetres"
        for place, count in sorted(pictures.items())
    ]
    lines += _refusals(root, found.skipped)
    return [*lines, ""]


def _line(place: Path, series: ScannedSeries, work: Path) -> str:
    s = series.summary
    size = (
        " × ".join(str(n) for n in s.shape_kji)
        if s.shape_kji
        else "1 object"
        if s.instances == 1
        else f"{s.instances} objects"
    )
    if s.time_points > 1:
        size += f" × {s.time_points} ({s.dimension})"
    spacing = " × ".join(f"{v:.3f}" for v in s.spacing_kji_mm) if s.spacing_kji_mm else "–"
    shown = s.object_kind.value if s.kind is SeriesKind.OTHER else s.kind.value
    words = [issue.message for issue in s.issues]
    words += [_decoding(series)] if s.kind is not SeriesKind.OTHER else []
    cells = (
        f"`{place}`" + (f" and {s.instances - 1} more" if s.instances > 1 else ""),
        " ".join(filter(None, (s.modality, s.view))),
        _syntax(series),
        shown,
        size,
        spacing,
        " ".join(filter(None, words)) or "–",
        _comparison(series, work),
    )
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def _syntax(series: ScannedSeries) -> str:
    if series.source_format != "dicom":
        return {"nifti": "NIfTI", "nrrd": "NRRD"}.get(series.source_format, series.source_format)
    names = {parse_file(ref.file, frozenset({0x00080016})).syntax.name for ref in series.instances[:3]}
    return ", ".join(sorted(names))


def _decoding(series: ScannedSeries) -> str:
    """Say what a reader is told who opens the series, where it can't be decoded."""
    if series.source_format != "dicom" or series.summary.instances > 50:
        return ""
    try:
        assemble_volume(series.instances, series.summary)
    except AppError as error:
        return error.user_message
    return ""


def _comparison(series: ScannedSeries, work: Path) -> str:
    if not series.summary.axis_codes:
        return "no place in the patient is stated"
    grid = our_grid(series)
    told = []
    for answer in peers_of(series, work):
        if answer.grid is None:
            told.append(f"{answer.peer} reads none")
            continue
        difference = largest_difference_mm(grid, answer.grid)
        told.append(f"{answer.peer} {'another shape' if difference is None else _millimetres(difference)}")
    where = f"{series.instances[0].file.relative_to(data_root())}"
    told += [why for start, why in EXPLAINED.items() if where.startswith(start)]
    return "; ".join(told)


def _millimetres(difference: float) -> str:
    return "≤ 0.001 mm" if difference <= 1e-3 else f"{difference:.3f} mm"


def _refusals(root: Path, skipped: Iterable[SkippedFile]) -> list[str]:
    """Group what was refused by folder and reason."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for one in skipped:
        path = Path(one.file)
        place = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        groups[str(place.parent), one.code, one.message].append(place.name)
    lines = []
    for (folder, code, message), names in sorted(groups.items()):
        which = f"`{names[0]}`" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        lines.append(f"- `{folder}`: {which} refused ({code}): {message}")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
