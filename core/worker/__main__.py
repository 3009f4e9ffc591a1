"""``python -m core.worker``: started by the supervisor, not by hand."""

from __future__ import annotations

import sys

from core.worker.dispatch import Dispatcher
from core.worker.entry import main

if __name__ == "__main__":
    sys.exit(main(Dispatcher()))
