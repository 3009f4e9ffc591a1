"""``python -m core.dicom.derived.page_process``: draws pages of PDF documents, one after the other, for its parent.

Requests come on standard input, answers go to standard output, as in ``decoder_process``: nothing stands on the command
line, nothing is written to a file. The document's own programs and forms are not run, nothing is fetched.
A watchdog in C ends the process when a page takes longer than ``PAGE_LIMIT_S`` or nothing is asked for ``IDLE_S``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import sys
from typing import IO

import pypdfium2
from pypdfium2 import PdfiumError

from core.config.child_process import limit_memory, serve_parent
from core.dicom.decoder_process import NICENESS
from core.dicom.faults import translated
from core.dicom.frame_pipe import read_exactly, read_head, write_message
from core.domain.errors import AppError, InputError

PAGE_LIMIT_S = 10.0
IDLE_S = 60.0
MEMORY_BYTES = 1 << 30
MOST_HEIGHT_OF_WIDTH = 6.0
"""A page that is narrower is drawn smaller, so that a picture has a bound."""


def serve(requests: IO[bytes], answers: IO[bytes], log: IO[str]) -> None:
    """Answer requests until the stream ends."""
    while True:
        faulthandler.dump_traceback_later(IDLE_S, exit=True, file=log)
        head = read_head(requests)
        if head is None:
            return
        document, count = head
        data = bytes(read_exactly(requests, count))
        faulthandler.dump_traceback_later(PAGE_LIMIT_S, exit=True, file=log)
        answer, pixels = _answer(json.loads(document), data)
        write_message(answers, json.dumps(answer).encode(), pixels)


def _answer(wanted: dict[str, int], data: bytes) -> tuple[dict[str, object], bytes]:
    limit_memory(MEMORY_BYTES + 2 * len(data))
    try:
        with translated("Drawing the page", "document.unreadable"):
            return _drawn(wanted["page"], wanted["width"], data)
    except AppError as error:
        family = "input" if isinstance(error, InputError) else "environment"
        told = {"family": family, "code": error.code, "message": error.user_message, "remedy": error.remedy}
        return {"error": told}, b""


def _drawn(page: int, width: int, data: bytes) -> tuple[dict[str, object], bytes]:
    """Return the number of pages, and page ``page`` (from 0) as RGB when it isn't negative."""
    try:
        document = pypdfium2.PdfDocument(data)
    except PdfiumError as error:
        protected = "assword" in str(error)
        raise InputError(
            "document.protected" if protected else "document.unreadable",
            "The document is protected by a password." if protected else "The document is no readable PDF.",
            "Ask for it where it was made.",
        ) from error
    with contextlib.closing(document):
        pages = len(document)
        if page < 0:
            return {"pages": pages}, b""
        if page >= pages:
            raise InputError(
                "document.no_such_page",
                f"The document has {pages} pages, not {page + 1}.",
                "Choose another page.",
            )
        opened = document[page]
        page_width, page_height = opened.get_size()
        if not (page_width > 0 and page_height > 0):
            raise InputError("document.unreadable", "The page has no size.", "Ask for it where it was made.")
        scale = min(width / page_width, width * MOST_HEIGHT_OF_WIDTH / page_height)
        bitmap = opened.render(scale=scale, rev_byteorder=True, may_draw_forms=False, limit_image_cache=True)
        picture = bitmap.to_numpy()
        return {"pages": pages, "shape": picture.shape[:2]}, picture[..., :3].tobytes()


def main() -> int:
    """Serve the parent over the standard streams."""
    serve_parent(serve, niceness=NICENESS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
