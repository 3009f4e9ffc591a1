"""No hostile file crashes the program, holds it up, or comes in without a word."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.hostile import SHOWN, Hostile, all_cases

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 10.0
PEAK_MB = 1024
TABLE = ROOT / "docs" / "hostile-files.md"
CASES = all_cases()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guards memory with RLIMIT_AS and /proc")


class Guarded:
    """A child process that takes one case after the other; started anew when one ends it."""

    def __init__(self, room: Path) -> None:
        self._room = room
        self._child: subprocess.Popen[str] | None = None

    def run(self, number: int) -> dict[str, Any] | str:
        """Return the child's answer, or what became of the child."""
        child = self._child or self._start()
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(f"{number}\n")
        child.stdin.flush()
        if not select.select([child.stdout], [], [], LIMIT_S)[0]:
            self.close()
            return f"no answer within {LIMIT_S:.0f} s"
        line = child.stdout.readline()
        if not line:
            status = child.wait()
            self.close()
            return f"the process ended with {status}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.fuzz.hostile_child", str(self._room)]
        self._child = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._child.stdout is not None
        assert json.loads(self._child.stdout.readline())["ready"] == len(CASES)
        return self._child

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    one = Guarded(tmp_path_factory.mktemp("sandbox"))
    yield one
    one.close()


def fault_of(case: Hostile, answer: dict[str, Any] | str) -> str:
    """Return what is wrong with an answer; empty when nothing is."""
    if isinstance(answer, str):
        return answer
    if answer["raised"]:
        return f"raised {answer['raised'].splitlines()[-1]}"
    if answer["peak_mb"] > PEAK_MB:
        return f"needed {answer['peak_mb']} MB"
    told = set(answer["told"])
    return "" if told & case.said else f"nothing is said of it, only {sorted(told)}"


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(300)
def test_every_hostile_file_is_refused_or_flagged(
    guarded: Guarded, tmp_path_factory: pytest.TempPathFactory
) -> None:
    faults = []
    for number, case in enumerate(CASES):
        fault = fault_of(case, guarded.run(number))
        if fault:
            faults.append(f"{case.row}, {case.name}: {fault}")
    assert faults == []
    escaped = [p for p in tmp_path_factory.getbasetemp().rglob("*escaped*") if p.is_file()]
    assert escaped + list(Path("/tmp").glob("escaped*")) == []


def test_there_are_more_than_two_hundred_of_them_each_with_a_name_of_its_own() -> None:
    assert len(CASES) > 200
    assert len({(case.row, case.name) for case in CASES}) == len(CASES)
    assert all(case.said for case in CASES)


def test_the_table_of_the_documents_lists_them() -> None:
    assert TABLE.read_text("utf-8") == table(CASES)


def table(cases: list[Hostile]) -> str:
    """Return the page of the documents."""
    lines = [
        "# Hostile files, and what a reader is told",
        "",
        "`tests/fuzz/hostile.py` builds each of these files; `tests/fuzz/test_hostile_files.py` scans, imports and",
        "opens it in a process with 1 GB to spare and 10 seconds of time. One of the codes must appear among the files",
        f"that were left out, the notes on the series, or the errors of opening it. `{SHOWN}` stands for sound images",
        "whose texts must not disturb the screen, and for those that are shown right although they look odd.",
        "",
        "| row | file | said |",
        "|---|---|---|",
    ]
    for case in cases:
        name = case.name.encode("unicode_escape").decode("ascii").replace("|", "\\|")
        lines.append(f"| {case.row} | {name} | {', '.join(f'`{code}`' for code in sorted(case.said))} |")
    return "\n".join(lines) + "\n"
