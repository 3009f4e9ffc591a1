"""The machine is read, and advice is given where a person can do something."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from core.config.hardware import (
    GpuReading,
    HardwareReading,
    advise,
    memory_slope_mb_per_minute,
    parse_gpus,
    read_hardware,
)

CALM = HardwareReading("2026-01-01T00:00:00+00:00", 10.0, 4000.0, 16000.0, 300.0, 50_000.0)


def at(minutes: float, own_mb: float) -> HardwareReading:
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    return replace(CALM, time_utc=time.isoformat(), own_memory_mb=own_mb)


def test_a_reading_agrees_with_psutil(tmp_path: Path) -> None:
    reading = read_hardware(tmp_path, interval_s=0.05, processes=3)
    assert reading.memory_total_mb == pytest.approx(psutil.virtual_memory().total / 2**20)
    assert reading.own_memory_mb == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.2)
    assert len(reading.processes) == 3
    assert reading.processes[0].memory_mb >= reading.processes[-1].memory_mb


def test_the_driver_s_table_is_read_and_unknown_figures_are_none() -> None:
    text = "0, NVIDIA RTX A4000, 12, 15800, 16376, 83, 120.50\n1, Tesla T4, [N/A], 10, 15360, 40, [N/A]\nnonsense\n"
    first, second = parse_gpus(text)
    assert first == GpuReading(0, "NVIDIA RTX A4000", 12.0, 15800.0, 16376.0, 83.0, 120.5)
    assert second.utilisation_percent is None
    assert second.power_w is None


def test_a_calm_machine_gets_no_advice() -> None:
    assert advise([CALM]) == ()
    assert advise([]) == ()


def test_heat_full_memory_and_waiting_cards_get_advice() -> None:
    hot = GpuReading(0, "A", 99.0, 15900.0, 16000.0, 85.0, 100.0)
    waiting = GpuReading(1, "B", 5.0, 12000.0, 16000.0, 50.0, 100.0)
    lines = advise([replace(CALM, gpus=(hot, waiting), memory_used_mb=15900.0, disk_free_mb=100.0)])
    assert len(lines) == 5
    assert "85 °C" in lines[0]
    assert "smaller batch" in lines[1]
    assert "data comes too slowly" in lines[2]


def test_steady_growth_is_a_leak_and_a_saw_tooth_is_none() -> None:
    growing = [at(n, 300 + 50 * n) for n in range(20)]
    assert memory_slope_mb_per_minute(growing) == pytest.approx(50.0)
    assert any("leaking" in line for line in advise(growing))
    saw = [at(n, 300 + 200 * (n % 2)) for n in range(20)]
    assert memory_slope_mb_per_minute(saw) is None
    grown_once = [at(n, 300 if n < 5 else 900) for n in range(20)]
    assert memory_slope_mb_per_minute(grown_once) is None
