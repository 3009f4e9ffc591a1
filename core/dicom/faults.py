"""The one translation of what parsers and codecs raise into the engine's own errors."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from core.domain.errors import AppError, EnvironmentFault, InputError

RAISED_BY_LIBRARIES = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    ImportError,
    struct.error,
    zlib.error,
)
"""What pydicom and the codecs were seen to raise on damaged input (RecursionError is a RuntimeError)."""


def malformed(message: str, code: str = "dicom.malformed") -> InputError:
    """Return the error for a file that breaks the format; ``message`` names the tag or the number."""
    return InputError(code, message, "Fetch the file again from its source; this copy cannot be trusted.")


@contextmanager
def memory_guarded(what: str) -> Iterator[None]:
    """Turn a lack of memory inside the block into an EnvironmentFault (``memory.exhausted``)."""
    try:
        yield
    except MemoryError as error:
        raise _no_memory(what) from error


def _no_memory(what: str) -> EnvironmentFault:
    return EnvironmentFault(
        "memory.exhausted", f"{what} needs more memory than there is.", "Close other programs and try again."
    )


@contextmanager
def translated(what: str, code: str = "dicom.malformed") -> Iterator[None]:
    """Turn whatever a library raises inside the block into an AppError.

    Parameters
    ----------
    what : str
        The step, in the reader's words, without identity ("Reading the header").
    code : str
        Code of the InputError.

    Raises
    ------
    InputError
        For damaged or unsupported content.
    EnvironmentFault
        When the disk or the memory is at fault.
    """
    try:
        yield
    except AppError:
        raise
    except MemoryError as error:
        raise _no_memory(what) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EnvironmentFault(
            "file.unreadable", f"{what} failed: {reason}.", "Check that the file exists and may be read."
        ) from error
    except RAISED_BY_LIBRARIES as error:
        raise malformed(f"{what} failed ({type(error).__name__}).", code) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # codecs written in Rust; not an Exception
            raise malformed(f"{what} failed (the codec gave up).", code) from error
        raise
