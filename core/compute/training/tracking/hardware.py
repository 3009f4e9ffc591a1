"""The machine's figures beside the losses: one event every few seconds, advice as notes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.config.hardware import HardwareReading, advise, read_hardware

_KEPT = 120


class HardwareWatch:
    """Reads the machine in a thread of its own and reports ``hardware`` events and new advice as ``note`` events.

    Parameters
    ----------
    folder : pathlib.Path
        Whose disk's free space is told.
    every_s : float
        Seconds between readings.
    emit : callable
        Receives ``{"event": "hardware", …}`` and ``{"event": "note", "code": "hardware", "message"}`` from the thread.
    """

    def __init__(
        self,
        folder: Path,
        every_s: float,
        emit: Callable[[Mapping[str, Any]], None],
        read: Callable[[Path], HardwareReading] = read_hardware,
    ) -> None:
        self._folder = folder
        self._every_s = every_s
        self._emit = emit
        self._read = read
        self._readings: deque[HardwareReading] = deque(maxlen=_KEPT)
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="overread-hardware", daemon=True)

    def __enter__(self) -> HardwareWatch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; no event follows."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()

    def look(self) -> None:
        """Take one reading now and report it."""
        reading = self._read(self._folder)
        self._readings.append(reading)
        self._emit({"event": "hardware", **flat_reading(reading)})
        for line in advise(self._readings):
            subject = line.split(":")[0].rstrip("0123456789 %°C.")
            if subject not in self._said:
                self._said.add(subject)
                self._emit({"event": "note", "code": "hardware", "message": line})


def flat_reading(reading: HardwareReading) -> dict[str, float]:
    """Return the numbers of a reading by name (``gpu0_utilisation_percent``); unknown figures are left out."""
    document = asdict(reading)
    out = {key: round(float(value), 1) for key, value in document.items() if isinstance(value, int | float)}
    for card in document["gpus"]:
        prefix = f"gpu{card.pop('index')}_"
        out |= {prefix + key: float(value) for key, value in card.items() if isinstance(value, int | float)}
    return out
