"""The import process of the window: it streams, it can be cancelled, its death is survived, it never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import Cancelled, CancelToken
from core.domain.study import SeriesSummary
from core.jobs import import_process
from core.jobs.import_process import ImportProcess
from core.services import list_studies
from core.services.engine import open_engine
from tests.fakes.corpus import write_corpus
from tests.fakes.left_behind import command_of, own_children

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
LIMIT_S = 20.0


@pytest.fixture
def importer(tmp_path: Path) -> Iterator[ImportProcess]:
    importer = ImportProcess(tmp_path / "home", "reader")
    yield importer
    importer.close()
    assert not [p for p in own_children() if "core.worker.importer" in command_of(p)]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_import_streams_its_series_and_tells_what_it_did(importer: ImportProcess, tmp_path: Path) -> None:
    write_corpus(tmp_path / "in", 170)
    (tmp_path / "in" / "readme \udcff.txt").write_text("no image")
    importer.start()
    told: list[tuple[str, float]] = []
    heard: list[SeriesSummary] = []
    threads: set[int] = set()

    def on_series(series: SeriesSummary) -> None:
        threads.add(threading.get_ident())
        heard.append(series)

    report = importer.run([tmp_path / "in"], "link", lambda *t: told.append(t), CancelToken(), on_series)
    assert report.counts == {"instances": 170, "series": 3}
    assert [s.code for s in report.skipped] == ["file.unknown_format"]
    assert Path(report.skipped[0].file).name == "readme \udcff.txt"
    (study,) = report.studies
    assert {s.key: s for s in heard} == {s.key: s for s in study.series}
    assert threads == {threading.get_ident()}
    assert told[-1][1] == 1.0
    first = importer.pid
    assert importer.run([tmp_path / "in"]).already_present == 170
    assert importer.pid == first
    with open_engine(tmp_path / "home") as engine:
        assert [s.study_uid for s in list_studies.list_studies(engine)] == [study.study_uid]


def test_a_refusal_arrives_as_what_it_is_and_the_process_goes_on(
    importer: ImportProcess, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        importer.run([tmp_path / "none"])
    assert refused.value.code == "import.not_found"
    write_corpus(tmp_path / "in", 2)
    assert importer.run([tmp_path / "in"]).counts["instances"] == 2


def test_a_cancel_is_heard(importer: ImportProcess, tmp_path: Path) -> None:
    write_corpus(tmp_path / "in", 1500)
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        importer.run([tmp_path / "in"], "copy", lambda *_: cancel.cancel(), cancel)
    assert importer.run([tmp_path / "in"]).counts["instances"] > 0


@pytest.mark.fault
def test_the_death_of_the_process_is_a_fault_and_the_next_import_completes(
    importer: ImportProcess, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "in", 1500)

    def kill(_: SeriesSummary) -> None:
        assert importer.pid is not None
        os.kill(importer.pid, signal.SIGKILL)

    with pytest.raises(EnvironmentFault) as lost:
        importer.run([tmp_path / "in"], on_series=kill)
    assert lost.value.code == "import.process_lost"
    report = importer.run([tmp_path / "in"])
    assert report.counts["instances"] + report.already_present == 1500


@pytest.mark.fault
def test_a_callback_that_fails_ends_the_import_and_leaves_nothing_for_the_next(
    importer: ImportProcess, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "in", 300)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        importer.run([tmp_path / "in"], "link", fail)
    seen: list[SeriesSummary] = []
    report = importer.run([tmp_path / "in"], on_series=seen.append)
    assert report.counts["instances"] + report.already_present == 300


@pytest.mark.fault
def test_a_program_that_can_t_be_started_or_talks_nonsense_is_a_fault(
    importer: ImportProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_process, "importer_command", lambda: [str(tmp_path / "none")])
    with pytest.raises(EnvironmentFault) as fault:
        importer.start()
    assert fault.value.code == "import.process_not_started"
    monkeypatch.setattr(
        import_process, "importer_command", lambda: [sys.executable, "-c", "print('x' * 100)"]
    )
    with pytest.raises(EnvironmentFault) as fault:
        importer.run([tmp_path])
    assert fault.value.code == "import.process_lost"


def test_a_closed_one_refuses(tmp_path: Path) -> None:
    importer = ImportProcess(tmp_path / "home")
    importer.close()
    with pytest.raises(EnvironmentFault):
        importer.run([tmp_path])


@pytest.mark.fault
def test_importer_and_scanners_die_with_the_window(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in", 3000)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from core.jobs.import_process import ImportProcess\n"
        "importer = ImportProcess(Path(sys.argv[1]))\n"
        "importer.start()\n"
        "print(importer.pid, flush=True)\n"
        "while True: importer.run([Path(sys.argv[2])], 'link', lambda *t: print(t, flush=True))\n"
    )
    window = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "home"), str(tmp_path / "in")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert window.stdout is not None
    importer = psutil.Process(int(window.stdout.readline()))
    window.stdout.readline()
    until(importer.children)
    family = [importer, *importer.children(recursive=True)]
    window.kill()
    window.wait()
    window.stdout.close()
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family))
