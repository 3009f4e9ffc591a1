"""What the processor, the memory, the disk and the graphics cards are doing, with advice in plain words.

Graphics cards are asked through ``nvidia-smi``, which comes with NVIDIA's driver; without it there are none.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

_QUERY = "index,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw"
_TIMEOUT_S = 5.0
HOT_C, FULL_SHARE, IDLE_PERCENT, BUSY_MEMORY_SHARE = 80.0, 0.95, 30.0, 0.5
_MB = 1 << 20


@dataclass(frozen=True)
class GpuReading:
    """One graphics card; a figure that the driver doesn't give is None. Memory in MiB, power in watts."""

    index: int
    name: str
    utilisation_percent: float | None
    memory_used_mb: float | None
    memory_total_mb: float | None
    temperature_c: float | None
    power_w: float | None


@dataclass(frozen=True)
class ProcessReading:
    """One process by number, never by its command line, which may hold paths."""

    pid: int
    name: str
    cpu_percent: float
    memory_mb: float


@dataclass(frozen=True)
class HardwareReading:
    """One look at the machine. Memory in MiB; ``own_memory_mb`` is this process's resident memory."""

    time_utc: str
    cpu_percent: float
    memory_used_mb: float
    memory_total_mb: float
    own_memory_mb: float
    disk_free_mb: float
    gpus: tuple[GpuReading, ...] = ()
    processes: tuple[ProcessReading, ...] = ()


def read_hardware(
    folder: Path | None = None, *, interval_s: float = 0.0, processes: int = 0
) -> HardwareReading:
    """Look at the machine.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Whose disk's free space is told; the current folder by default.
    interval_s : float
        Time over which the processor's use is measured; 0 takes the time since the last call.
    processes : int
        How many of the processes with the most memory are listed.
    """
    memory = psutil.virtual_memory()
    return HardwareReading(
        datetime.now(UTC).isoformat(timespec="seconds"),
        psutil.cpu_percent(interval_s or None),
        (memory.total - memory.available) / _MB,
        memory.total / _MB,
        psutil.Process().memory_info().rss / _MB,
        shutil.disk_usage(folder or Path.cwd()).free / _MB,
        read_gpus(),
        _largest(processes) if processes else (),
    )


def read_gpus() -> tuple[GpuReading, ...]:
    """Ask the driver for every card; empty when there is no driver or it doesn't answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_gpus(answer.stdout) if answer.returncode == 0 else ()


def parse_gpus(text: str) -> tuple[GpuReading, ...]:
    """Read the lines of ``nvidia-smi --query-gpu=… --format=csv,noheader,nounits``."""
    cards = []
    for line in text.strip().splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 7 or not fields[0].isdigit():
            continue
        numbers = [_number(field) for field in fields[2:]]
        cards.append(GpuReading(int(fields[0]), fields[1], *numbers))
    return tuple(cards)


def advise(readings: Sequence[HardwareReading]) -> tuple[str, ...]:
    """Return what somebody should do about the latest readings, the most urgent first; empty when all is well."""
    if not readings:
        return ()
    last = readings[-1]
    lines = [line for card in last.gpus for line in _gpu_advice(card)]
    if last.memory_used_mb > FULL_SHARE * last.memory_total_mb:
        lines.append(
            f"Memory is {100 * last.memory_used_mb / last.memory_total_mb:.0f} % full: "
            "close other programs or take a smaller batch."
        )
    if last.disk_free_mb < 1024:
        lines.append(f"Only {last.disk_free_mb:.0f} MB are free on the disk: checkpoints may not be written.")
    slope = memory_slope_mb_per_minute(readings)
    if slope is not None and slope > 20:
        lines.append(f"This process grows by {slope:.0f} MB a minute: it may be leaking memory.")
    return tuple(lines)


def memory_slope_mb_per_minute(readings: Sequence[HardwareReading]) -> float | None:
    """Return the steady growth of the own memory, None when it isn't steady or not known yet.

    At least ten readings; a straight line must explain nine tenths of the second half's variance, so that a first
    allocation or a saw-tooth doesn't count.
    """
    if len(readings) < 10:
        return None
    half = list(readings)[len(readings) // 2 :]
    times = [datetime.fromisoformat(r.time_utc).timestamp() / 60 for r in half]
    values = [r.own_memory_mb for r in half]
    n = len(half)
    mean_t, mean_v = sum(times) / n, sum(values) / n
    tt = sum((t - mean_t) ** 2 for t in times)
    vv = sum((v - mean_v) ** 2 for v in values)
    tv = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True))
    if tt == 0 or vv == 0 or tv * tv / (tt * vv) < 0.9:
        return None
    return tv / tt


def _gpu_advice(card: GpuReading) -> list[str]:
    lines = []
    name = f"Graphics card {card.index}"
    if card.temperature_c is not None and card.temperature_c > HOT_C:
        lines.append(f"{name} is at {card.temperature_c:.0f} °C: check its fans, or limit its power.")
    if card.memory_used_mb is None or not card.memory_total_mb:
        return lines
    share = card.memory_used_mb / card.memory_total_mb
    if share > FULL_SHARE:
        lines.append(f"{name}'s memory is {100 * share:.0f} % full: take a smaller batch or half precision.")
    busy = card.utilisation_percent
    if busy is not None and busy < IDLE_PERCENT and share > BUSY_MEMORY_SHARE:
        lines.append(
            f"{name} waits ({busy:.0f} % busy) with {100 * share:.0f} % of its memory taken: "
            "the data comes too slowly; use more workers or the cache."
        )
    return lines


def _largest(count: int) -> tuple[ProcessReading, ...]:
    found = []
    for process in psutil.process_iter(["pid", "name", "cpu_percent", "memory_info"]):
        memory = process.info["memory_info"]
        if memory is not None:
            found.append(
                ProcessReading(
                    process.info["pid"],
                    process.info["name"] or "",
                    process.info["cpu_percent"] or 0.0,
                    memory.rss / _MB,
                )
            )
    return tuple(sorted(found, key=lambda p: -p.memory_mb)[:count])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
