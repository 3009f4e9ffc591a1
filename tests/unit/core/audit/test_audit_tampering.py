"""Whoever holds the database's key and edits the file directly is found, and the place is named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import sqlcipher3.dbapi2 as driver

from core.config.keys import KeyStore
from core.domain.audit import AuditCode, AuditRecord
from core.services import verify_audit
from core.services.engine import open_engine
from tests.fakes.engines import make_engine

RECORDS = 2000
COLUMNS = [f.name for f in fields(AuditRecord)]
Tamper = Callable[[driver.Connection, random.Random], int | None]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed home with some thousand records."""
    folder = tmp_path_factory.mktemp("pristine")
    engine = make_engine(folder)
    with engine.unit_of_work():
        for number in range(RECORDS):
            engine.record(AuditCode.DECISION, action="C", detail={"count": number, "verdict": "accept"})
    engine.close()
    return folder / "home"


def connect(home: Path) -> driver.Connection:
    connection = driver.connect(str(home / "library.db"), isolation_level=None)
    key = KeyStore.open(home / "keys").derive("database").hex()
    connection.execute(f"PRAGMA key = \"x'{key}'\"")
    connection.execute("PRAGMA synchronous = OFF")
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    return connection


def edit(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randint(1, RECORDS)
    column = chance.choice([c for c in COLUMNS if c != "seq"])
    old = connection.execute(f"SELECT {column} FROM audit WHERE seq = ?", (seq,)).fetchone()[0]
    if column == "outcome":
        new: object = 4 if old != 4 else 8
    elif column == "action":
        new = "D" if old != "D" else "C"
    else:
        new = old + 1 if isinstance(old, int) else old + "x"
    connection.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (new, seq))
    return seq


def edit_hash(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randint(1, RECORDS)
    column = chance.choice(["hash", "prev"])
    connection.execute(f"UPDATE audit SET {column} = randomblob(32) WHERE seq = ?", (seq,))
    return seq


def change_type(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randint(1, RECORDS)
    column, value = chance.choice(
        [("outcome", "0.5"), ("mono_ns", "'x'"), ("user_id", "x'41'"), ("n_objects", "0.25")]
    )
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(f"UPDATE audit SET {column} = {value} WHERE seq = ?", (seq,))
    return seq


def delete(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randint(1, RECORDS)
    connection.execute("DELETE FROM audit WHERE seq = ?", (seq,))
    return seq


def delete_and_renumber(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randint(1, RECORDS)
    connection.execute("DELETE FROM audit WHERE seq = ?", (seq,))
    connection.execute("UPDATE audit SET seq = -seq WHERE seq > ?", (seq,))
    connection.execute("UPDATE audit SET seq = -seq - 1 WHERE seq < 0")
    return seq


def swap(connection: driver.Connection, chance: random.Random) -> int:
    first, second = sorted(chance.sample(range(1, RECORDS), 2))
    for old, new in ((first, -1), (second, first), (-1, second)):
        connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (new, old))
    return first


def insert(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randint(2, RECORDS)
    connection.execute("UPDATE audit SET seq = -seq WHERE seq >= ?", (seq,))
    connection.execute("UPDATE audit SET seq = -seq + 1 WHERE seq < 0")
    others = ",".join([*COLUMNS[1:], "prev", "hash"])
    connection.execute(
        f"INSERT INTO audit (seq,{others}) SELECT ?,{others} FROM audit WHERE seq = ?", (seq, seq - 1)
    )
    return seq


def cut_tail(connection: driver.Connection, chance: random.Random) -> int:
    keep = chance.randint(1, RECORDS)
    connection.execute("DELETE FROM audit WHERE seq > ?", (keep,))
    if chance.random() < 0.7:
        connection.execute("DELETE FROM audit_anchor WHERE seq > ?", (keep,))
    return keep + 1


def cut_everything(connection: driver.Connection, chance: random.Random) -> int:
    connection.execute("DELETE FROM audit")
    connection.execute("DELETE FROM audit_anchor")
    return 1


def drop_anchor(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randrange(100, RECORDS, 100)
    connection.execute("DELETE FROM audit_anchor WHERE seq = ?", (seq,))
    return seq


def forge_anchor(connection: driver.Connection, chance: random.Random) -> int:
    seq = chance.randrange(100, RECORDS, 100)
    column, value = chance.choice(
        [("head", "randomblob(32)"), ("sig", "randomblob(64)"), ("ts_utc", "'2020'")]
    )
    connection.execute(f"UPDATE audit_anchor SET {column} = {value} WHERE seq = ?", (seq,))
    return seq


TAMPERS: list[Tamper] = [
    edit, edit, edit_hash, change_type, delete, delete_and_renumber, swap, insert, cut_tail, cut_everything,
    drop_anchor, forge_anchor,
]  # fmt: skip


def test_two_hundred_tamperings_are_found_at_their_place(pristine: Path, tmp_path: Path) -> None:
    chance = random.Random(20260101)
    home = tmp_path / "home"
    shutil.copytree(pristine, home)
    engine = open_engine(home)
    assert verify_audit.verify(engine).ok
    connection = connect(home)
    keep(connection)
    engine.once("audit-alert")  # keeps the checks below from adding records
    missed = []
    try:
        for number in range(200):
            tamper = TAMPERS[number % len(TAMPERS)]
            connection.execute("BEGIN IMMEDIATE")
            expected = tamper(connection, chance)
            connection.execute("COMMIT")
            outcome = verify_audit.verify(engine)
            if outcome.ok or outcome.first_bad_seq != expected:
                missed.append((number, tamper.__name__, expected, outcome))
            restore(connection)
        assert verify_audit.verify(engine).ok
    finally:
        connection.close()
        engine.library.close()
    assert not missed


def keep(connection: driver.Connection) -> None:
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("CREATE TEMP TABLE good AS SELECT * FROM audit")
    connection.execute("CREATE TEMP TABLE good_anchor AS SELECT * FROM audit_anchor")


def restore(connection: driver.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM audit")
    connection.execute("DELETE FROM audit_anchor")
    connection.execute("INSERT INTO audit SELECT * FROM good")
    connection.execute("INSERT INTO audit_anchor SELECT * FROM good_anchor")
    connection.execute("COMMIT")


def test_an_older_copy_of_the_whole_database_is_found(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        engine.record(AuditCode.EXPORT)
    home = tmp_path / "home"
    shutil.copy(home / "library.db", tmp_path / "old.db")
    with open_engine(home) as engine:
        for _ in range(150):
            engine.record(AuditCode.EXPORT)
    shutil.copy(tmp_path / "old.db", home / "library.db")
    with open_engine(home) as engine:
        outcome = verify_audit.verify(engine)
    assert not outcome.ok
    assert "keys/audit.head" in outcome.reason


def test_a_missing_or_forged_head_file_is_found(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    head = tmp_path / "home" / "keys" / "audit.head"
    document = json.loads(head.read_text())
    head.write_text(json.dumps({**document, "head": document["head"].replace("1", "0", 1)}))
    assert not verify_audit.verify(engine).ok
    head.unlink()
    assert not verify_audit.verify(engine).ok
    engine.close()


def test_a_broken_chain_raises_one_security_alert(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    for _ in range(5):
        engine.record(AuditCode.EXPORT)
    connection = connect(tmp_path / "home")
    connection.execute("UPDATE audit SET user_id = 'somebody' WHERE seq = 3")
    connection.close()
    assert verify_audit.verify(engine).first_bad_seq == 3
    assert verify_audit.verify(engine).first_bad_seq == 3
    alerts = [r for r in verify_audit.list_events(engine) if r.event_code == "110113"]
    assert len(alerts) == 1
    assert (alerts[0].outcome, alerts[0].reason) == (8, "audit.chain_broken")
    engine.close()


def test_a_clean_chain_is_never_suspected(tmp_path: Path) -> None:
    for _ in range(20):
        with open_engine(tmp_path / "home") as engine:
            engine.record(AuditCode.EXPORT)
            assert verify_audit.verify(engine).ok
