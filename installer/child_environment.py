"""What programs that we start inherit from a frozen build."""

from __future__ import annotations

import os


def restore_library_path() -> None:
    """Give children the loader's path of the person's session instead of ours.

    The boot loader puts the frozen folder in front for this process, which the loader has read by now. A
    browser, a file manager or ``nvidia-smi`` started with it would load our libraries instead of its own.
    """
    original = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is not None:
        os.environ["LD_LIBRARY_PATH"] = original
    else:
        os.environ.pop("LD_LIBRARY_PATH", None)
