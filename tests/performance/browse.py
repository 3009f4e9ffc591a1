"""How fast the worklist opens and answers with 10,000 studies, beside plain SQLite.

Run: ``python tests/performance/browse.py --json [--rounds N] [--studies N] [--home DIR]``. Filling the library isn't
counted; ``--home`` keeps it for the next run. Each round starts a new process for each program, so that nothing is
warm but the disk cache. Rounds are interleaved; medians are compared. Figures with ``cpu`` count processor time, which
other work on the computer doesn't lengthen.

The peer does the same without any protection: one unencrypted SQLite file of the same version, in which names, IDs and
descriptions stand in clear, an FTS5 table with trigrams over all of it, and one query per search that returns the same
columns. It is what a worklist costs when nothing has to be decrypted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
BATCH = 500

FAMILIES = (
    "Müller", "Schmidt", "Okafor", "García", "Nguyen", "Kowalski", "Øster", "Petrov", "Haddad",
    "Johansson", "Dubois", "Rossi", "Yilmaz", "Tanaka", "Costa", "Novák", "Ivanova", "Silva", "Kim",
    "Singh",
)  # fmt: skip
GIVEN = (
    "Anna", "Bo", "Clara", "Dmitri", "Élodie", "Farid", "Greta", "Hiro", "Inês", "Jan", "Karin",
    "Luis", "Mei", "Nadia", "Olaf", "Paula", "Quentin", "Rosa",
)  # fmt: skip
IDEOGRAPHIC = ("山田^太郎", "鈴木^花子", "王^小明", "김^희중", "")
KINDS = {
    "CT": ("CHEST", ("Topogram", "Thorax 1.0 B70f", "Thorax 5.0 B31f", "MIP coronal", "Dose report")),
    "MR": ("BRAIN", ("localizer", "t1 mprage sag", "t2 tse tra", "flair axial dark fluid", "dwi b1000 ADC")),
    "DX": ("HAND", ("PA", "oblique", "lateral")),
    "MG": ("BREAST", ("R CC", "L CC", "R MLO", "L MLO")),
    "PT": ("WHOLEBODY", ("CT low dose", "PET attenuation corrected", "PET uncorrected", "Fusion")),
}
TYPED = ("mueller an", "thorax", "山田", "flair 2024-0", "reviewed ct", "id004", "kowalski clara ct", "zzz")


def patient(number: int) -> tuple[str, str, str]:
    """Return name, ID and birth date of an invented patient."""
    chance = random.Random(number)
    name = f"{chance.choice(FAMILIES)}^{chance.choice(GIVEN)}^{chance.choice('ABCDEFGH')}"
    ideographic = chance.choice(IDEOGRAPHIC)
    birth = f"{chance.randint(1930, 2010)}{chance.randint(1, 12):02}{chance.randint(1, 28):02}"
    return f"{name}={ideographic}" if ideographic else name, f"ID{number:06}", birth


def studies(count: int) -> Any:
    """Yield invented studies as plain values, the same ones each time."""
    chance = random.Random(11)
    for number in range(count):
        modality = chance.choice(list(KINDS))
        body_part, descriptions = KINDS[modality]
        series = chance.sample(descriptions, min(len(descriptions), chance.randint(3, 5)))
        yield {
            "uid": f"1.2.826.0.1.3680043.10.77.{number}",
            "patient": patient(chance.randrange(count // 3)),
            "accession": f"A{number:07}",
            "modality": modality,
            "body_part": body_part,
            "description": f"{modality} {body_part.lower()}",
            "month": f"{chance.randint(2018, 2025)}-{chance.randint(1, 12):02}",
            "status": chance.choice(("unread", "in_progress", "reviewed", "reviewed")),
            "imported": f"2026-01-{1 + number % 28:02}T00:00:{number % 60:02}.{number % 1000:03}+00:00",
            "series": series,
        }


def fill_ours(home: Path, count: int) -> None:
    """Write the studies through the repositories, without files."""
    from core.domain.study import PatientIdentity, SeriesKind, SeriesSummary, StudySummary
    from core.services.engine import open_engine

    with open_engine(home, actor="bench") as engine:
        rows = list(studies(count))
        for start in range(0, count, BATCH):
            with engine.unit_of_work() as uow:
                for row in rows[start : start + BATCH]:
                    name, patient_id, birth = row["patient"]
                    identity = PatientIdentity(name, patient_id, birth, "O", row["accession"], "Doktor^Erika")
                    pseudonym = engine.vault.pseudonym(identity, row["uid"])
                    uow.studies.add(
                        StudySummary(
                            row["uid"], pseudonym, row["description"], (), row["status"], (), row["month"],
                            row["imported"],
                        ),
                        identity,
                    )  # fmt: skip
                    for position, description in enumerate(row["series"]):
                        key = f"{row['uid']}.{position}"
                        uow.series.put(
                            SeriesSummary(
                                key, key, row["uid"], row["modality"], description, row["body_part"], 100, 100,
                                SeriesKind.VOLUME, (100, 512, 512), (1.0, 0.7, 0.7), True,
                                series_number=position,
                            ),
                            "dicom",
                        )  # fmt: skip


def fill_plain(file: Path, count: int) -> None:
    """Write the same studies in clear."""
    import sqlcipher3.dbapi2 as driver

    from core.domain.person_name import folded, search_text

    connection = driver.connect(str(file))
    connection.executescript(
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE study (uid TEXT PRIMARY KEY, name, id, birth, accession, description, month, modality,"
        " series INT, instances INT, status, imported);"
        "CREATE TABLE series (key TEXT PRIMARY KEY, uid, modality, description, body_part, instances INT);"
        "CREATE INDEX series_uid ON series(uid);"
        "CREATE VIRTUAL TABLE words USING fts5(folded, tokenize = 'trigram case_sensitive 1');"
    )
    for row in studies(count):
        name, patient_id, birth = row["patient"]
        number = len(row["series"])
        rowid = connection.execute(
            "INSERT INTO study VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                row["uid"], name, patient_id, birth, row["accession"], row["description"], row["month"],
                row["modality"], number, number * 100, row["status"], row["imported"],
            ),
        ).lastrowid  # fmt: skip
        connection.executemany(
            "INSERT INTO series VALUES (?,?,?,?,?,100)",
            [
                (f"{row['uid']}.{k}", row["uid"], row["modality"], text, row["body_part"])
                for k, text in enumerate(row["series"])
            ],
        )
        words = [search_text(name), *row["series"], row["body_part"], row["description"], row["month"]]
        words += [patient_id, row["accession"], row["modality"], row["status"]]
        connection.execute("INSERT INTO words(rowid, folded) VALUES (?,?)", (rowid, folded(" ".join(words))))
    connection.commit()
    connection.close()


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Return milliseconds and the answer."""
    began = time.perf_counter()
    answer = act()
    return (time.perf_counter() - began) * 1000, answer


def on_processor(act: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return milliseconds, milliseconds of processor time, and the answer."""
    began = time.process_time()
    wall_ms, answer = timed(act)
    return wall_ms, (time.process_time() - began) * 1000, answer


def prefixes(text: str) -> list[str]:
    """Return what stands in the field after each key."""
    return [text[: n + 1] for n in range(len(text))]


def resident_mb() -> float:
    """Return the most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_ours(home: Path) -> dict[str, Any]:
    """Open the worklist, type, unfold, set a status; in this process, which did nothing before."""
    from core.domain.browse import StudyFilter
    from core.services import browse
    from core.services.engine import open_engine

    opened_ms, engine = timed(lambda: open_engine(home, actor="bench"))
    before_mb = resident_mb()
    with engine:
        cold_ms, cold_cpu_ms, lines = on_processor(lambda: browse.study_lines(engine))
        again_ms, _ = timed(lambda: browse.study_lines(engine))
        typing = [
            on_processor(lambda text=text: browse.study_lines(engine, StudyFilter(text=text)))
            for query in TYPED
            for text in prefixes(query)
        ]
        hits = [len(browse.study_lines(engine, StudyFilter(text=query))) for query in TYPED]
        unfold_ms, series = timed(lambda: browse.series_of(engine, lines[len(lines) // 2].study_uid))
        priors_ms, _ = timed(lambda: browse.priors_of(engine, lines[0].study_uid))
        other = "unread" if lines[5].status == "reviewed" else "reviewed"
        status_ms, _ = timed(lambda: browse.set_status(engine, lines[5].study_uid, other))
        refresh_ms, _ = timed(lambda: browse.study_lines(engine))
        assert series
    return {
        "open_library_ms": opened_ms,
        "cold_list_ms": cold_ms,
        "cold_list_cpu_ms": cold_cpu_ms,
        "warm_list_ms": again_ms,
        "first_search_ms": typing[0][0],
        "search_median_ms": statistics.median(wall for wall, _, _ in typing),
        "search_worst_ms": max(wall for wall, _, _ in typing),
        "search_worst_cpu_ms": max(cpu for _, cpu, _ in typing),
        "unfold_ms": unfold_ms,
        "priors_ms": priors_ms,
        "status_ms": status_ms,
        "refresh_ms": refresh_ms,
        "memory_mb": resident_mb() - before_mb,
        "studies": len(lines),
        "hits": hits,
    }


def measure_plain(file: Path) -> dict[str, Any]:
    """Do the same on the plain file."""
    import sqlcipher3.dbapi2 as driver

    from core.domain.person_name import folded

    connection = driver.connect(str(file))
    columns = "SELECT study.* FROM study"
    order = " ORDER BY imported DESC, uid DESC"

    def search(query: str) -> list[Any]:
        terms = folded(query).split()
        long = " ".join('"' + word.replace('"', '""') + '"' for word in terms if len(word) > 2)
        short = [word for word in terms if len(word) < 3]
        wheres = (["words MATCH ?"] if long else []) + ["instr(words.folded, ?) > 0"] * len(short)
        where = f" JOIN words ON words.rowid = study.rowid WHERE {' AND '.join(wheres)}" if wheres else ""
        found: list[Any] = connection.execute(
            columns + where + order, [*([long] if long else []), *short]
        ).fetchall()
        return found

    cold_ms, rows = timed(lambda: connection.execute(columns + order).fetchall())
    typing = [timed(lambda text=text: search(text)) for query in TYPED for text in prefixes(query)]
    hits = [len(search(query)) for query in TYPED]
    uid = rows[len(rows) // 2][0]
    unfold_ms, _ = timed(
        lambda: connection.execute("SELECT * FROM series WHERE uid = ? ORDER BY key", (uid,)).fetchall()
    )

    def set_status() -> None:
        connection.execute("UPDATE study SET status = 'reviewed' WHERE uid = ?", (uid,))
        connection.commit()

    status_ms, _ = timed(set_status)
    connection.close()
    return {
        "cold_list_ms": cold_ms,
        "first_search_ms": typing[0][0],
        "search_median_ms": statistics.median(t for t, _ in typing),
        "search_worst_ms": max(t for t, _ in typing),
        "unfold_ms": unfold_ms,
        "status_ms": status_ms,
        "hits": hits,
    }


def child(what: str, place: Path) -> dict[str, Any]:
    """Measure in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", what, "--home", str(place)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def compare(rounds: int, count: int, folder: Path) -> dict[str, Any]:
    """Fill both, run interleaved rounds and return the document of the contract."""
    home, plain = folder / f"library-{count}", folder / f"plain-{count}.db"
    if not home.exists():
        fill_ours(home, count)
    if not plain.exists():
        fill_plain(plain, count)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(child("ours", home))
        theirs.append(child("plain", plain))
    mine, peer = medians(ours), medians(theirs)
    assert ours[0]["studies"] == count
    shared = ("cold_list_ms", "search_median_ms", "search_worst_ms", "unfold_ms", "status_ms")
    return {
        "name": "browse",
        "ratios": {
            f"{name.removesuffix('_ms')}: ours/plain-fts5": mine[name] / peer[name] for name in shared
        },
        "ours": {**mine, "studies": count, "hits": dict(zip(TYPED, ours[0]["hits"], strict=True))},
        "peers": {"plain-fts5": {**peer, "hits": dict(zip(TYPED, theirs[0]["hits"], strict=True))}},
        "rounds": rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def medians(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median of each number."""
    names = [name for name, value in found[0].items() if isinstance(value, float)]
    return {name: round(statistics.median(one[name] for one in found), 3) for name in names}


def main() -> int:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--measure", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.measure:
        measure = measure_ours if arguments.measure == "ours" else measure_plain
        print(json.dumps(measure(arguments.home)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.home or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        document = compare(arguments.rounds, arguments.studies, folder)
    print(json.dumps(document, indent=None if arguments.json else 2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
