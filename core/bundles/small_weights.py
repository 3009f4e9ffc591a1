"""Weights as eight-bit whole numbers with a scale per output channel, for files that must stay small.

Only the weights are stored this way; the network calculates in float32 as ever. A tensor ``w`` of two or more
dimensions becomes ``q`` int8 of the same shape and, under ``NAME::scale``, ``s`` float32 of shape ``(O,)`` for its
first axis, with ``w ≈ s[o] * q``, ``s[o] = max |w[o]| / 127``. No weight moves by more than ``s[o] / 2``. Other
floating-point tensors (biases, norms, statistics, scalars) stay float32, whole numbers stay as they are.

Source: Jacob et al., CVPR 2018, section 2 (symmetric, per channel: Krishnamoorthi, arXiv:1806.08342, 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

SCALE_SUFFIX = "::scale"
_LARGEST = 127


def encode_int8(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the tensors to be written for ``state`` (name → array).

    Raises
    ------
    ValueError
        A name that ends like a scale, or a tensor with numbers that aren't finite.
    """
    encoded: dict[str, NDArray] = {}
    for name, array in state.items():
        if name.endswith(SCALE_SUFFIX):
            raise ValueError(f"a tensor may not be named {name}")
        if array.dtype.kind != "f":
            encoded[name] = np.array(array, order="C")
            continue
        values = np.array(array, dtype=np.float32, order="C")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds numbers that are not finite")
        if values.ndim < 2 or values.size == 0:
            encoded[name] = values
            continue
        rows = values.reshape(len(values), -1)
        scale = (np.abs(rows).max(axis=1) / _LARGEST).astype(np.float32)
        divisor = np.where(scale > 0, scale, 1).astype(np.float32)
        whole = np.clip(np.rint(rows / divisor[:, None]), -_LARGEST, _LARGEST).astype(np.int8)
        encoded[name] = whole.reshape(values.shape)
        encoded[name + SCALE_SUFFIX] = scale
    return encoded


def decode_int8(stored: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return float32 tensors for what ``encode_int8`` wrote; tensors without a scale as they are.

    Raises
    ------
    ValueError
        A scale without its tensor, of another length, or whose tensor isn't int8.
    """
    decoded: dict[str, NDArray] = {}
    for name, array in stored.items():
        if name.endswith(SCALE_SUFFIX):
            if name.removesuffix(SCALE_SUFFIX) not in stored:
                raise ValueError(f"{name} belongs to no tensor")
            continue
        scale = stored.get(name + SCALE_SUFFIX)
        if scale is None:
            decoded[name] = array
            continue
        if array.dtype != np.int8 or array.ndim < 2 or scale.shape != array.shape[:1]:
            raise ValueError(f"{name} and its scale don't belong together")
        decoded[name] = array * scale.astype(np.float32).reshape(-1, *(1,) * (array.ndim - 1))
    return decoded
