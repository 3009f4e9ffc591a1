"""Reads encapsulated documents: PDF pages can be drawn, other documents (CDA, STL, OBJ) are named.

Source: DICOM PS3.3 A.45, C.24.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.dataset import DerivedFile, open_derived_file
from core.dicom.derived.identity import HEADER_TAGS, PDF, header_of, with_issues
from core.dicom.derived.page_pool import pages
from core.dicom.faults import malformed, translated
from core.domain.derived import Document
from core.domain.errors import InputError
from core.domain.volume import SeriesIssue

_TITLE, _DOCUMENT, _MEDIA_TYPE, _LENGTH = 0x00420010, 0x00420011, 0x00420012, 0x00420015
WANTED = HEADER_TAGS | frozenset((_DOCUMENT, _MEDIA_TYPE, _LENGTH))
_PDF_TYPE = "application/pdf"
_NAMES = {"text/xml": "CDA", "application/hl7-v3+xml": "CDA", "model/stl": "STL", "model/obj": "OBJ"}


def read_document(path: Path) -> Document:
    """Read an encapsulated document's description and count its pages.

    Raises
    ------
    InputError
        When the file is damaged. A PDF that can't be read has no pages and an issue that says why.
    """
    with translated("Reading the document"):
        file = open_derived_file(path, WANTED)
        header = header_of(file)
        media_type = _media_type(file)
        title = file.data.words(_TITLE) or header.description or header.label
        if media_type != _PDF_TYPE:
            name = _NAMES.get(media_type, media_type or "unknown")
            issue = SeriesIssue("document.not_shown", f"Documents of the kind {name[:40]} can't be shown.")
            return Document(with_issues(header, issue), title, media_type, 0)
        try:
            count = pages.count(_bytes(file))
        except InputError as error:
            return Document(
                with_issues(header, SeriesIssue(error.code, error.user_message)), title, media_type, 0
            )
        return Document(header, title, media_type, count)


def draw_page(path: Path, page: int, width_px: int) -> NDArray[np.uint8]:
    """Return a page of an encapsulated PDF as ``(H, W, 3)`` RGB.

    Parameters
    ----------
    page : int
        From 0.
    width_px : int
        Width of the picture, 16 to 4096; the height follows.

    Raises
    ------
    InputError
        When there is no such page, or it can't be drawn.
    EnvironmentFault
        When the drawing process can't be started.
    """
    with translated("Reading the document"):
        file = open_derived_file(path, WANTED)
        if _media_type(file) != _PDF_TYPE:
            raise InputError(
                "document.not_shown", "Only PDF documents can be shown.", "Open it with another program."
            )
        data = _bytes(file)
    return pages.draw(data, page, width_px)


def _media_type(file: DerivedFile) -> str:
    stated = file.data.text(_MEDIA_TYPE).lower()
    return stated or (_PDF_TYPE if file.sop_class_uid == PDF else "")


def _bytes(file: DerivedFile) -> bytes:
    """Return the document without the padding that makes its length even."""
    data = file.data.value(_DOCUMENT)
    if not data:
        raise malformed("The object holds no document (0042,0011).", "document.empty")
    length = file.data.integer(_LENGTH)
    return data[:length] if length is not None and 0 < length <= len(data) else data
