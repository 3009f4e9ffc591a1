"""How long the GUI thread stands still while a worklist of 10,000 studies is listed, searched and walked.

Run: ``python tests/performance/worklist.py --json --home DIR`` with a library that ``tests/performance/browse.py
--home`` has filled (its folder ``library-10000``). A timer of the GUI thread fires each millisecond; the longest gap
between two ticks is the longest time in which nobody could have clicked. Needs a display.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")

TYPED = ("okafor cla", "muller an", "thorax", "zzz", "mr flair")
KEY_PAUSE_MS = 60
NO = Qt.KeyboardModifier.NoModifier


class Stalls:
    """Collects the gaps between two ticks of the GUI thread."""

    def __init__(self) -> None:
        self._gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(1)
        self.found: dict[str, dict[str, float]] = {}

    def _tick(self) -> None:
        now = time.perf_counter()
        self._gaps.append((now - self._last) * 1000)
        self._last = now

    def of(self, what: str, do: Callable[[], None]) -> None:
        """Note the stalls while something is done."""
        QTest.qWait(300)
        self._gaps, self._last = [], time.perf_counter()
        do()
        QTest.qWait(50)
        gaps = sorted(self._gaps)
        self.found[what] = {"worst_ms": round(gaps[-1], 1), "over_50_ms": sum(gap > 50 for gap in gaps)}


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Run the event loop until a condition holds."""
    end = time.perf_counter() + timeout_s
    while not condition() and time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.0005)


def measure(home: Path) -> dict[str, Any]:
    """Drive the window over a library and return what was found."""
    from app.bootstrap import Application, Start
    from app.bridge import collector

    sys.setswitchinterval(0.0005)  # as the program itself does
    collector.calm()
    qt = QApplication(["overread-bench"])
    window = Application(qt, Start(home=home))
    window.window.resize(1280, 800)
    window.show()
    window.window.activateWindow()
    until(lambda: window.worklist.state.loaded)
    QTest.qWait(1500)
    stalls = Stalls()
    tree, search = window.worklist_panel.tree, window.top_bar.search
    answers: list[float] = []

    def settled() -> None:
        until(lambda: not window.worklist.reading_lines)

    def refresh() -> None:
        window.worklist.refresh()
        settled()

    def wheel() -> None:
        for _ in range(150):
            event = QWheelEvent(
                QPointF(50, 50), QPointF(50, 200), QPoint(), QPoint(0, -120), Qt.MouseButton.NoButton, NO,
                Qt.ScrollPhase.NoScrollPhase, False,
            )  # fmt: skip
            QApplication.sendEvent(tree.viewport(), event)
            QApplication.processEvents()

    def bar() -> None:
        scroll = tree.verticalScrollBar()
        for step in range(100):
            scroll.setValue(scroll.maximum() * step // 100)
            QApplication.processEvents()

    def typing() -> None:
        search.setFocus()
        for text in TYPED:
            for letter in text:
                QTest.keyClicks(search, letter)
                QTest.qWait(KEY_PAUSE_MS)
            start = time.perf_counter()
            until(lambda text=text: window.worklist.state.query == text)
            settled()
            answers.append(round((time.perf_counter() - start) * 1000, 1))
            search.clear()
            settled()

    def keys() -> None:
        tree.focus_lines()
        pages = (Qt.Key.Key_PageDown,) * 20
        for key in (Qt.Key.Key_End, Qt.Key.Key_Home, *pages, *(Qt.Key.Key_Down,) * 50):
            QTest.keyClick(tree, key)
            QApplication.processEvents()

    def unfold() -> None:
        rows = [row for row in window.worklist.state.rows if row.kind == "study"]
        for place in (10, len(rows) // 2, len(rows) - 10):
            window.worklist.set_unfolded(rows[place], True)
            QTest.qWait(150)

    def by_name() -> None:
        window.worklist.arrange(window.worklist.state.columns, "name")
        settled()

    def hide() -> None:
        window.identity.toggle()
        QTest.qWait(50)
        window.identity.toggle()

    for what in (refresh, wheel, bar, typing, keys, unfold, by_name, hide):
        stalls.of(what.__name__, what)
    stalls.of("select_all", tree.selectAll)
    studies = window.worklist.state.total
    window.window.close()
    return {"studies": studies, "stalls": stalls.found, "answer_after_last_letter_ms": answers}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.home)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for what, numbers in found["stalls"].items():
            print(f"{what:12} worst {numbers['worst_ms']:6.1f} ms, over 50 ms: {numbers['over_50_ms']}")
        print(
            "answer after the last letter, the pause of 80 ms included:", found["answer_after_last_letter_ms"]
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
