"""Who writes the objects, and the identifiers they carry."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID, uuid4

from pydicom.uid import UID

MANUFACTURER = "Overread"
PRODUCT = "Overread"
INTENDED_USE = "Not for primary diagnosis. For research and review support."


@dataclass(frozen=True)
class SeriesNumbers:
    """Series Number (0020,0011) per kind: high, so that derived series sort after what was acquired."""

    seg: int = 9001
    sr: int = 9002
    pm: int = 9003
    pdf: int = 9004
    kos: int = 9005


SERIES_NUMBERS = SeriesNumbers()


def new_uid() -> UID:
    """Return a new random UID under 2.25 (a UUID). Source: DICOM PS3.5 B.2."""
    return UID(f"2.25.{uuid4().int}")


def uid_from(*parts: str) -> UID:
    """Return the UID under 2.25 that belongs to ``parts``: the same parts always give the same UID."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return UID(f"2.25.{UUID(bytes=digest[:16], version=4).int}")


def tracking_uid(result_id: str, key: str) -> UID:
    """Return the Tracking UID of a finding: the same for the same result and key, in SEG and SR alike.

    Parameters
    ----------
    result_id : str
        Identifier of the model result.
    key : str
        What is tracked in it: a finding's id, or ``segment:<value>``.
    """
    return uid_from("overread.tracking", result_id, key)


def device_uid(serial: str) -> UID:
    """Return the UID of this installation as an observer (TID 1004), stable per serial number."""
    return uid_from("overread.device", serial)


def file_stem(kind: str, sop_instance_uid: str) -> str:
    """Return a file name without identity: kind and a short hash of the object's UID."""
    return f"{kind}_{hashlib.sha256(sop_instance_uid.encode('ascii')).hexdigest()[:10]}"
