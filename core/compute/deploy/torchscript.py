"""TorchScript of a network: traced, frozen, held against the network."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import torch
from torch import nn

from core.compute.deploy.engines import flat, largest_difference, scale_of
from core.domain.errors import InputError

TOLERANCE = 1e-4


def torchscript_of(
    network: nn.Module, example: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]
) -> bytes:
    """Return a traced and frozen network as a TorchScript file.

    A network that answers with a dictionary keeps it.

    Parameters
    ----------
    example : tuple of torch.Tensor
        What it is traced with.
    other : tuple of torch.Tensor
        Another input, of another batch size: what a trace may have taken for a constant shows here.

    Raises
    ------
    InputError
        ``deploy.torchscript`` when it can't be traced or the trace answers otherwise.
    """
    model = copy.deepcopy(network).eval()
    # The warnings tell of Python values in the trace; the comparison below tells whether they matter.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            traced = torch.jit.trace(model, example, strict=False, check_trace=False)
            frozen = torch.jit.freeze(traced.eval())
            buffer = io.BytesIO()
            torch.jit.save(frozen, buffer)
            loaded = load_torchscript(buffer.getvalue())
            gap = max(_gap(loaded, model, given) for given in (example, other))
        except (RuntimeError, TypeError, ValueError) as error:
            raise _refused(f"it can't be traced ({type(error).__name__})") from error
    if gap > TOLERANCE:
        raise _refused(f"the trace differs by {gap:.1e}")
    return buffer.getvalue()


def load_torchscript(data: bytes) -> Any:
    """Load a TorchScript file on the processor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(io.BytesIO(data), map_location="cpu").eval()


def _gap(traced: Any, model: nn.Module, given: tuple[torch.Tensor, ...]) -> float:
    wanted = flat(model(*given))
    return largest_difference(flat(traced(*given)), wanted) / scale_of(wanted)


def _refused(why: str) -> InputError:
    return InputError("deploy.torchscript", f"This network has no TorchScript: {why}.", "Deploy it as onnx.")
