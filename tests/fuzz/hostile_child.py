"""``python -m tests.fuzz.hostile_child FOLDER``: imports and opens hostile files, guarded, one after the other.

Reads the number of a case per line from standard input and answers with a line of JSON: what a person was told, what
else was raised, how long it took and how much memory it needed at most.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from core.domain.errors import AppError
from core.domain.person_name import name_in_words
from core.domain.study import SeriesKind
from core.services import derived_objects, import_issues, list_studies, thumbnails
from core.services.engine import Engine, open_engine
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from core.services.read_tags import read_tags
from core.services.scan_sources import scan_sources
from tests.fuzz import dicom_bytes
from tests.fuzz.hostile import SHOWN, Hostile, all_cases

SPARE_BYTES = 1 << 30
UNSAFE = set(
    map(chr, [*range(32), *range(127, 160), 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2028, 0xFEFF])
)


def told_of(engine: Engine, path: Path, work: Path, copy: bool) -> set[str]:
    """Scan, import and open; return the codes that a person is told."""
    told: set[str] = set()
    scanned = scan_sources([path], work, children=0)
    told |= {one.code for one in scanned.skipped}
    told |= {issue.code for one in scanned.series for issue in one.summary.issues}
    report = import_paths(engine, [path], mode="copy" if copy else "link", children=0)
    told |= {one.code for one in report.skipped}
    for study in report.studies:
        identity = list_studies.identity_of(engine, study.study_uid)
        if not UNSAFE & set(name_in_words(identity.patient_name)):
            told.add(SHOWN)
        for summary, instances in (list_studies.get_series(engine, one.key) for one in study.series):
            told |= {issue.code for issue in summary.issues}
            told |= open_series(engine, summary.key, summary.kind is SeriesKind.OTHER)
            thumbnails.thumbnail(engine, summary, instances)
            for instance in instances[:3]:
                try:
                    read_tags(engine, instance.file)
                except AppError as error:
                    told.add(error.code)
    import_issues.list_quarantine(engine)
    return told


def open_series(engine: Engine, key: str, derived: bool) -> set[str]:
    """Open a series as the window does; return the codes of errors and of issues found then."""
    try:
        if derived:
            return {
                issue.code for header in derived_objects.derived_of(engine, key) for issue in header.issues
            }
        return {issue.code for issue in load_volume(engine, key).issues}
    except AppError as error:
        return {error.code}


def run(engine: Engine, case: Hostile, number: int, room: Path) -> dict[str, Any]:
    """Run one case in a folder of its own."""
    folder, work = room / "in", room / "work"
    for one in (folder, work):
        shutil.rmtree(one, ignore_errors=True)
        one.mkdir(parents=True)
    path = case.build(folder, number)
    begin = time.monotonic()
    raised = ""
    told: set[str] = set()
    try:
        told = told_of(engine, path, work, copy=number % 2 == 0)
    except AppError as error:
        told.add(error.code)
    except Exception:  # noqa: BLE001 - whatever else comes out is what the test is about
        raised = traceback.format_exc()
    answer = {"told": sorted(told), "raised": raised, "seconds": time.monotonic() - begin}
    answer["peak_mb"] = peak_mb()
    return answer


def peak_mb() -> int:
    """Return the most memory that this program has had. (``ru_maxrss`` would count what started it, too.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def main() -> int:
    """Answer requests until the input ends."""
    room = Path(sys.argv[1])
    cases = all_cases()
    warnings.simplefilter("ignore")
    with open_engine(room / "home", actor="reader") as engine:
        sound = room / "sound.dcm"
        sound.write_bytes(dicom_bytes.image(999_999))
        told_of(engine, sound, room, copy=True)
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (in_use + SPARE_BYTES, hard))
        print(json.dumps({"ready": len(cases)}), flush=True)
        for line in sys.stdin:
            number = int(line)
            print(json.dumps(run(engine, cases[number], number + 1, room)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
