"""A Windows job object: its processes end when the last handle to it is closed, however the owner died.

Source: Microsoft, "Job Objects" and ``JOBOBJECT_EXTENDED_LIMIT_INFORMATION`` (winnt.h).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes
from typing import Any

_EXTENDED_LIMIT_INFORMATION = 9
_KILL_ON_JOB_CLOSE = 0x2000


class _BasicLimits(ctypes.Structure):
    _fields_ = [
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", wintypes.DWORD),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", wintypes.DWORD),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", wintypes.DWORD),
        ("SchedulingClass", wintypes.DWORD),
    ]


class _IoCounters(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "ReadOperationCount",
            "WriteOperationCount",
            "OtherOperationCount",
            "ReadTransferCount",
            "WriteTransferCount",
            "OtherTransferCount",
        )
    ]


class _ExtendedLimits(ctypes.Structure):
    _fields_ = [
        ("BasicLimitInformation", _BasicLimits),
        ("IoInfo", _IoCounters),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    ]


class WindowsJob:
    """Holds a job object with KILL_ON_JOB_CLOSE; keep it as long as the child may live."""

    def __init__(self, process_handle: int) -> None:
        """Put the process into a new job.

        Raises
        ------
        OSError
            If Windows refuses.
        """
        self._kernel = _kernel32()
        self._job = self._kernel.CreateJobObjectW(None, None)
        if not self._job:
            raise _last_error()
        limits = _ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = _KILL_ON_JOB_CLOSE
        ok = self._kernel.SetInformationJobObject(
            self._job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
        )
        if not ok or not self._kernel.AssignProcessToJobObject(self._job, process_handle):
            error = _last_error()
            self.close()
            raise error

    def close(self) -> None:
        """Close the job; whatever still runs in it is ended."""
        if self._job:
            self._kernel.CloseHandle(self._job)
            self._job = None


def _kernel32() -> Any:
    """Return kernel32 with the signatures that we use: without them 64-bit handles would be cut to 32 bits."""
    if sys.platform != "win32":
        raise OSError("job objects exist on Windows only")
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.argtypes = [ctypes.c_void_p, wintypes.LPCWSTR]
    kernel.CreateJobObjectW.restype = wintypes.HANDLE
    kernel.SetInformationJobObject.argtypes = [wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD]
    kernel.SetInformationJobObject.restype = wintypes.BOOL
    kernel.AssignProcessToJobObject.argtypes = [wintypes.HANDLE, wintypes.HANDLE]
    kernel.AssignProcessToJobObject.restype = wintypes.BOOL
    kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    kernel.CloseHandle.restype = wintypes.BOOL
    return kernel


def _last_error() -> OSError:
    if sys.platform != "win32":
        return OSError("job objects exist on Windows only")
    return ctypes.WinError(ctypes.get_last_error())
