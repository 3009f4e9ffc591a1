"""A running window in its own process, what it tells, and a real keyboard and mouse for it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 150.0


class Hands:
    """A running window, what it told, and a keyboard."""

    def __init__(self, home: Path, *files: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/fakes/gui_driver.py"), str(home), *map(str, files)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._sources: list[subprocess.Popen[str]] = []
        self.shown: dict[str, Any] = {}
        self.qt: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def wait(self, event: str, wanted: Any = lambda _: True) -> dict[str, Any]:
        """Wait until the window tells ``event`` with a value that ``wanted`` accepts."""
        until = time.monotonic() + TIMEOUT_S
        while not (event in self.shown and wanted(self.shown[event].get("value"))):
            left = until - time.monotonic()
            assert left > 0, f"no {event}; last: { {k: v.get('value') for k, v in self.shown.items()} }"
            try:
                told = json.loads(self._lines.get(timeout=min(left, 1.0)))
            except queue.Empty:
                assert self.process.poll() is None, f"the window ended with {self.process.returncode}"
                continue
            self.shown[told["event"]] = told
            if told["event"] == "qt":
                self.qt.append(told["text"])
        return self.shown[event]

    def key(self, *keys: str) -> None:
        """Press keys on the real keyboard of the display."""
        window = str(self.shown["painted"]["window"])
        subprocess.run(["xdotool", "windowfocus", "--sync", window], check=True, timeout=20)
        subprocess.run(["xdotool", "key", "--delay", "60", *keys], check=True, timeout=20)

    def end(self) -> None:
        """Take the window away if it is still there."""
        for source in self._sources:
            source.kill()
            source.wait(20)
            if source.stdout is not None:
                source.stdout.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def type(self, text: str) -> None:
        """Type text on the real keyboard of the display."""
        subprocess.run(["xdotool", "type", "--delay", "40", text], check=True, timeout=60)

    def drop(self, *files: Path) -> str:
        """Drag files from a window of another program into this one with the real mouse.

        Returns what the other program is told, ``"CopyAction"`` when all is well.
        """
        place = self.shown["painted"]
        at = (place["x"] + place["width"] // 2, place["y"] + place["height"] // 2)
        start = (place["x"] + place["width"] + 60, place["y"] + 60)
        source = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/fakes/drag_source.py"), *map(str, (*start, *files))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        # It must live on: the files' names are asked for after the button is let go.
        self._sources.append(source)
        assert source.stdout is not None
        assert json.loads(source.stdout.readline())["event"] == "ready"
        _pull((start[0] + 40, start[1] + 40), at)
        return str(json.loads(source.stdout.readline())["action"])


def _pull(start: tuple[int, int], end: tuple[int, int]) -> None:
    """Press the left button, pull in steps as a hand does, and let go."""
    _mouse("mousemove", start[0], start[1], "mousedown", 1)
    for step in range(1, 13):
        x = start[0] + (end[0] - start[0]) * step // 12
        y = start[1] + (end[1] - start[1]) * step // 12
        _mouse("mousemove", x, y)
        time.sleep(0.08)
    _mouse("mousemove", end[0] + 2, end[1])
    time.sleep(0.4)
    _mouse("mouseup", 1)


def _mouse(*words: object) -> None:
    subprocess.run(["xdotool", *map(str, words)], check=True, timeout=20)
