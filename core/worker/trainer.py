"""``python -m core.worker.trainer``: the training worker. Started by the training board, not by hand.

It yields to everything else: lowest priority, ``SCHED_IDLE`` on Linux, all processors but one, and a rest between two
steps whenever somebody reads.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Sequence

import psutil

from core.jobs.messages import JobPaused, JobSubmitted, PauseJob, ResumeJob, YieldToReader
from core.services.training_threads import thread_cap
from core.worker import lifeline
from core.worker.channel import Channel
from core.worker.entry import Service
from core.worker.training_tasks import TrainingRunner

NICENESS = 19


class TrainingService(Service):
    """Serves the training board; hears wishes to rest beside those to stop."""

    def __init__(self, channel: Channel, runner: TrainingRunner, beat_s: float) -> None:
        super().__init__(channel, runner, beat_s)
        self._training = runner
        runner.send = self._send

    def _do(self, order: JobSubmitted) -> None:
        self._training.job_id = order.job_id
        super()._do(order)

    def _obey(self, message: object) -> None:
        pause = self._training.pause
        if isinstance(message, PauseJob):
            resting = pause.held_by == "reading"
            pause.pause()
            if resting:
                # It rests for the reader already and would not say again that it does.
                self._send(JobPaused(self._training.job_id, "reader"))
        elif isinstance(message, ResumeJob):
            pause.resume()
        elif isinstance(message, YieldToReader):
            pause.yield_for(message.seconds)
        else:
            super()._obey(message)


def step_back() -> None:
    """Let every other process go first."""
    if sys.platform == "win32":
        with contextlib.suppress(psutil.Error):
            psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)
        return
    lifeline.yield_to_others(NICENESS)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # some containers refuse it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main(
    runner: TrainingRunner | None = None, argv: Sequence[str] | None = None, *, yields: bool = True
) -> int:
    """Run the worker; the command line carries numbers only. ``yields`` False keeps the priority (tests)."""
    parser = argparse.ArgumentParser(prog="overread-trainer", description="Started by Overread, not by hand.")
    parser.add_argument("--parent", type=int, default=0, help="process number of the training board")
    parser.add_argument("--beat", type=float, default=5.0, help="seconds between heartbeats")
    parser.add_argument("--nice", type=int, default=0, help="ignored: this worker is always the last to run")
    options = parser.parse_args(argv)
    lifeline.die_with_parent(options.parent)
    channel = Channel.over_standard_streams()
    faulthandler.enable(sys.stderr)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if yields:
        step_back()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(thread_cap()))
    status = TrainingService(channel, runner or TrainingRunner(), options.beat).serve()
    sys.stderr.flush()
    # The listener still waits for input; joining it would wait for the board.
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
