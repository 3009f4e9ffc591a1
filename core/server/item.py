"""One image on its way to a model, and the answer on its way back; torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["picture", "nifti", "nifti-gz", "dicom", "zip"]


@dataclass(frozen=True, eq=False)
class Upload:
    """A file as it was sent: in memory (``data``) or in our work folder (``file``); its own name is never kept.

    ``name`` is the model's name of the contrast for models that take several, else empty.
    """

    kind: Kind
    data: bytes | None
    file: Path | None = None
    name: str = ""

    def content(self) -> bytes:
        """Return the bytes."""
        if self.data is not None:
            return self.data
        assert self.file is not None
        return self.file.read_bytes()


@dataclass(frozen=True, eq=False)
class Item:
    """What a model process answers at once.

    Attributes
    ----------
    uploads : sequence of Upload
        One, or one per contrast.
    text : str or None
        A report, for models that read one.
    features, label_map : bool
        Whether these are wanted in the answer.
    """

    uploads: Sequence[Upload]
    text: str | None = None
    features: bool = False
    label_map: bool = False

    def to_frame(self, number: int) -> tuple[dict[str, Any], list[bytes]]:
        """Return the document and the pieces of the payload, for ``core.server.frames``."""
        inputs = [
            {
                "kind": upload.kind,
                "name": upload.name,
                "file": str(upload.file) if upload.data is None else None,
                "size": len(upload.data) if upload.data is not None else 0,
            }
            for upload in self.uploads
        ]
        document = {
            "id": number,
            "inputs": inputs,
            "text": self.text,
            "features": self.features,
            "label_map": self.label_map,
        }
        return document, [upload.data for upload in self.uploads if upload.data is not None]

    @classmethod
    def from_frame(cls, document: dict[str, Any], payload: bytes) -> Item:
        """Return what ``to_frame`` was called on."""
        uploads, place = [], 0
        for each in document["inputs"]:
            if each["file"] is None:
                data: bytes | None = payload[place : place + each["size"]]
                place += each["size"]
            else:
                data = None
            file = Path(each["file"]) if each["file"] is not None else None
            uploads.append(Upload(each["kind"], data, file, each["name"]))
        return cls(tuple(uploads), document["text"], document["features"], document["label_map"])


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of an item: a status of HTTP and a JSON document (a ``Prediction`` or a ``Refusal``).

    ``batch`` is the number of images that the network saw together, ``milliseconds`` the time for this one.
    """

    status: int
    body: bytes
    batch: int = 1
    milliseconds: float = 0.0


@dataclass(frozen=True)
class PoolState:
    """How the model processes are: those that are ready, of how many, and what they hold."""

    ready: int
    wanted: int
    device: str
    waiting: int
    restarts: int
    memory_bytes: dict[str, float] = field(default_factory=dict)
    failed: str = ""
