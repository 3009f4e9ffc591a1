"""A worker that speaks the real protocol and does what ``SelfTestTask.bundle_path`` says, however rude.

``sleep S``: work S seconds, cooperative. ``stubborn``: never look at the flag. ``deaf``: the same, and ignore
SIGTERM. ``die N``: send itself signal N. ``exit N``. ``spin S``: hold the interpreter lock in C for S seconds.
``print``: write to standard output. ``raise``. ``refuse``. ``fork``: start a child that sleeps, then sleep.
``fill``: write ones into ``labels_out`` of a RunModelTask after reading its voxels.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress
from core.jobs.messages import ExplainTask, RunModelTask, SelfTestTask, Task
from core.worker.attached import AttachedArrays
from core.worker.entry import main


class RudeRunner:
    def warm_up(self) -> None:
        pass

    def run(
        self, task: Task, arrays: AttachedArrays, progress: Progress, cancel: CancelToken
    ) -> dict[str, Any]:
        if isinstance(task, RunModelTask):
            return self.fill(task, arrays, progress, cancel)
        if isinstance(task, ExplainTask):
            arrays.view(task.heat_out, writeable=True)[...] = 0.5
            return {"method": task.method, "class_label": task.class_label}
        assert isinstance(task, SelfTestTask)
        word, _, argument = task.bundle_path.partition(" ")
        return getattr(self, f"do_{word}")(argument, progress, cancel)

    def do_sleep(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        total = float(argument)
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < total:
            progress("sleeping", elapsed / total)
            cancel.raise_if_cancelled()
            time.sleep(0.005)
        return {"slept": total}

    def do_stubborn(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        progress("ignoring you", 0.1)
        time.sleep(600)
        return {}

    def do_deaf(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return self.do_stubborn(argument, progress, cancel)

    def do_die(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        os.kill(os.getpid(), int(argument))
        time.sleep(600)
        return {}

    def do_exit(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        os._exit(int(argument))

    def do_spin(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        import ctypes

        libc = ctypes.PyDLL(None)  # PyDLL keeps the interpreter lock
        until = time.monotonic() + float(argument)
        sys.setswitchinterval(1000.0)
        data = bytearray(64 * 2**20)
        buffer = (ctypes.c_char * len(data)).from_buffer(data)
        while time.monotonic() < until:
            libc.memset(buffer, 1, len(data))
        sys.setswitchinterval(0.005)
        return {"spun": True}

    def do_print(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        print("a stray print", flush=True)
        os.write(1, b"and one below Python\n")
        subprocess.run([sys.executable, "-c", "print('and one of a child')"], check=True)
        return {"stdin": len(sys.stdin.read())}

    def do_raise(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        raise ValueError("a value that only the log may hold")

    def do_refuse(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        raise InputError("fake.refused", "The fake refused.", "Ask it nicely.")

    def do_fork(self, argument: str, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(argument).write_text(str(child.pid))
        return self.do_stubborn(argument, progress, cancel)

    def fill(
        self, task: RunModelTask, arrays: AttachedArrays, progress: Progress, cancel: CancelToken
    ) -> dict[str, Any]:
        if not task.bundle_path.endswith("fill"):
            word, _, argument = Path(task.bundle_path).name.partition(" ")
            getattr(self, f"do_{word}")(argument, progress, cancel)
        assert task.labels_out is not None
        progress("filling", 0.5)
        arrays.view(task.labels_out, writeable=True)[...] = arrays.view(task.volume.voxels) > 0
        return {"has_labels": True}


if __name__ == "__main__":
    sys.exit(main(RudeRunner()))
