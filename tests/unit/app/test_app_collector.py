"""What the collector of garbage is told, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import gc
from app.bridge import collector
collector.calm()
kept = [[] for _ in range(50_000)]
for one in kept:
    one.append(kept)
collector.set_aside()
class Cycle: pass
cycle = Cycle()
cycle.self = cycle
del cycle
print(gc.isenabled(), gc.get_freeze_count() >= 50_000, len(gc.get_objects()) < 5_000, gc.collect() >= 1)
"""


def test_what_lives_on_is_walked_no_more_and_later_cycles_are_still_freed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True"] * 4
