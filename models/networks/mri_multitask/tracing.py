"""Whether the network is being recorded for export."""

from __future__ import annotations

import torch


def exporting() -> bool:
    """Return whether a tracer, an exporter or a compiler is recording the operations.

    The layers then leave out what a graph can't hold: threads, streams, kernel choices, own backward
    passes and dispatch that depends on the data.
    """
    return bool(
        torch.jit.is_tracing()  # type: ignore[attr-defined]
        or torch.compiler.is_compiling()
        or torch.onnx.is_in_onnx_export()
    )
