"""``python -m core.dicom.decoder_process``: decodes compressed frames, one after the other, for its parent.

Requests come on standard input, answers go to standard output: two lengths (``<IQ``), a JSON document, bytes.
Nothing stands on the command line, nothing is written to a file.

Lifeline: the end of standard input ends the process, whatever became of the parent. A watchdog in C, which no
codec can hold up, ends it when a frame takes longer than ``FRAME_LIMIT_S`` or nothing is asked for ``IDLE_S``.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from typing import IO

from core.config.child_process import limit_memory, serve_parent
from core.dicom.codec import CodedFrame, decode_frame
from core.dicom.faults import translated
from core.dicom.frame_pipe import read_exactly, read_head, write_message
from core.domain.errors import AppError, InputError

FRAME_LIMIT_S = 30.0
IDLE_S = 120.0
NICENESS = 2
_SPARE_BYTES = 1 << 30
_COPIES = 12
"""Codecs hold samples as 32-bit integers, before and after the wavelet transform, beside the result."""


def serve(requests: IO[bytes], answers: IO[bytes], log: IO[str]) -> None:
    """Answer requests until the stream ends."""
    while True:
        faulthandler.dump_traceback_later(IDLE_S, exit=True, file=log)
        head = read_head(requests)
        if head is None:
            return
        document, count = head
        data = read_exactly(requests, count)
        faulthandler.dump_traceback_later(FRAME_LIMIT_S, exit=True, file=log)
        answer, pixels = _answer(CodedFrame(**json.loads(document)), bytes(data))
        write_message(answers, json.dumps(answer).encode(), pixels)


def _answer(coded: CodedFrame, data: bytes) -> tuple[dict[str, object], memoryview]:
    """Return the answer's document and the pixels' bytes."""
    limit_memory(_SPARE_BYTES + _COPIES * coded.decoded_bytes + len(data))
    try:
        with translated("Decoding a frame", "dicom.undecodable"):
            pixels = decode_frame(coded, data)
            return {"shape": pixels.shape, "dtype": pixels.dtype.str}, pixels.reshape(-1).view("u1").data
    except AppError as error:
        family = "input" if isinstance(error, InputError) else "environment"
        told = {"family": family, "code": error.code, "message": error.user_message, "remedy": error.remedy}
        return {"error": told}, memoryview(b"")


def main() -> int:
    """Serve the parent over the standard streams."""
    serve_parent(serve, niceness=NICENESS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
