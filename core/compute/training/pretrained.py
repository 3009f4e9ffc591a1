"""Start a network from weights in a user's file: ImageNet weights of other libraries, or our own. No download.

Only the backbone is taken; the head stays new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (the exception only; nothing is unpickled here)
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from core.compute.training.pretrained_maps import Translation, family_of, translate
from core.domain.errors import InputError
from models.networks.parts import backbone_parameters, parts_of, plain

LEAST_COVERAGE = 0.9
_CONTAINERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "teacher")
_WRAPPERS = ("module.", "model.", "_orig_mod.", "network.")
_TENSORFLOW_PADDING = ("transformers", "efficientnet-pytorch")


@dataclass(frozen=True)
class PretrainedReport:
    """What a file gave to a network.

    Attributes
    ----------
    file, sha256 : str
        Name (without folder) and hash of the file.
    naming : str
        Whose names the file holds: ``torchvision``, ``timm``, ``transformers`` …, or ``overread``.
    loaded : tuple of str
        Names in the network that got the file's values.
    missing : tuple of str
        Backbone names that the file doesn't hold.
    mismatched : tuple of str
        Backbone names whose shape differs; they stay as they were.
    unused : tuple of str
        The file's names without a place in the backbone (its classifier, for one).
    coverage : float
        Part of the backbone's parameters (numbers, not names) that were loaded, 0 to 1.
    notes : tuple of str
        What to mind, in sentences.
    """

    file: str
    sha256: str
    naming: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]
    coverage: float
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, for the run's record."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


def load_pretrained(network: nn.Module, name: str, file: Path) -> PretrainedReport:
    """Load a file's weights into the backbone of a network.

    Parameters
    ----------
    network : torch.nn.Module
        Built by ``models.networks.registry.build``; changed in place, not at all when the file is refused.
    name : str
        Its name in the registry.
    file : pathlib.Path
        ``.safetensors``, or ``.pth``/``.pt``/``.bin`` that holds tensors only.

    Returns
    -------
    PretrainedReport
        What was loaded, what was not.

    Raises
    ------
    InputError
        ``training.pretrained``: unreadable, holds more than tensors, or fits less than 90 % of the backbone.
    """
    network = plain(network)
    wanted = _backbone_state(network)
    foreign = _unwrapped(read_weights(file), file, wanted)
    translation = _translated(name, foreign, wanted)
    fitting, mismatched = {}, []
    for key, tensor in translation.tensors.items():
        shaped = _shaped(key, tensor, wanted[key])
        if shaped is None:
            mismatched.append(key)
        else:
            fitting[key] = shaped
    coverage = _coverage(network, fitting)
    missing = tuple(
        key for key in wanted if key not in translation.tensors and not key.endswith("num_batches_tracked")
    )
    if coverage < LEAST_COVERAGE:
        raise _refusal(file, name, coverage, missing, mismatched)
    with torch.no_grad():
        for key, tensor in fitting.items():
            wanted[key].copy_(tensor)
    return PretrainedReport(
        file=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        naming=translation.naming,
        loaded=tuple(sorted(fitting)),
        missing=missing,
        mismatched=tuple(mismatched),
        unused=translation.unused,
        coverage=coverage,
        notes=_notes(network, name, translation.naming),
    )


def read_weights(file: Path) -> Mapping[str, Any]:
    """Return what a file holds: tensors by name, possibly inside a container. Nothing in it is executed.

    Raises
    ------
    InputError
        ``training.pretrained`` when it can't be read or holds more than tensors.
    """
    if not file.is_file():
        raise _error(f"The weights file “{file.name}” doesn't exist.", "Choose a file on this computer.")
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise _error(
            f"The weights file “{file.name}” can't be read, or holds more than tensors.",
            "Choose a .safetensors file, or a .pth file that holds a plain state dict.",
        ) from error
    if not isinstance(content, Mapping):
        raise _error(
            f"The weights file “{file.name}” holds no table of tensors.",
            "Choose a .safetensors file, or a .pth file that holds a plain state dict.",
        )
    return content


def _unwrapped(content: Mapping[str, Any], file: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file without containers and without wrappers' prefixes that all names have."""
    for container in _CONTAINERS:
        inner = content.get(container)
        if isinstance(inner, Mapping):
            content = inner
            break
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _error(f"The weights file “{file.name}” holds no tensors.", "Choose another file.")
    while not any(key in wanted for key in tensors):
        prefix = next((w for w in _WRAPPERS if all(key.startswith(w) for key in tensors)), None)
        if prefix is None:
            break
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _backbone_state(network: nn.Module) -> dict[str, Tensor]:
    head = tuple(f"{prefix}." for prefix in parts_of(network).head)
    state = network.state_dict()
    return {key: value for key, value in state.items() if not key.startswith(head)}


def _translated(name: str, foreign: dict[str, Tensor], wanted: dict[str, Tensor]) -> Translation:
    own = {key: tensor for key, tensor in foreign.items() if key in wanted}
    best = Translation("overread", own, tuple(key for key in foreign if key not in wanted))
    family = family_of(name)
    if family is None:
        return best
    inside = frozenset(key.removeprefix("encoder.") for key in wanted if key.startswith("encoder."))
    other = translate(family, foreign, inside)
    if len(other.tensors) <= len(own):
        return best
    tensors = {f"encoder.{key}": tensor for key, tensor in other.tensors.items()}
    return Translation(other.naming, tensors, other.unused)


def _shaped(key: str, tensor: Tensor, like: Tensor) -> Tensor | None:
    """Return the tensor in the network's shape, None when it doesn't fit.

    Axes of length one may differ (1 × 1 convolutions stored as matrices); a position table of another picture
    size is interpolated.
    """
    if tensor.shape == like.shape:
        return tensor
    if [size for size in tensor.shape if size != 1] == [size for size in like.shape if size != 1]:
        return tensor.reshape(like.shape)
    if key.endswith("pos_embedding") and tensor.ndim == 3 and tensor.shape[2] == like.shape[2]:
        return _positions(tensor, like.shape[1] - 1)
    return None


def _positions(table: Tensor, count: int) -> Tensor | None:
    before, after = round((table.shape[1] - 1) ** 0.5), round(count**0.5)
    if before * before != table.shape[1] - 1:
        return None
    grid = table[:, 1:].float().reshape(1, before, before, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(grid, size=(after, after), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1].float(), resized.flatten(2).transpose(1, 2)], dim=1)


def _coverage(network: nn.Module, fitting: Mapping[str, Tensor]) -> float:
    """Return the part of the backbone's parameters, counted in numbers, that a file fills."""
    backbone = {id(parameter) for parameter in backbone_parameters(network)}
    sizes = {key: p.numel() for key, p in network.named_parameters() if id(p) in backbone}
    return sum(size for key, size in sizes.items() if key in fitting) / max(sum(sizes.values()), 1)


def _notes(network: nn.Module, name: str, naming: str) -> tuple[str, ...]:
    if family_of(name) != "efficientnet":
        return ()
    stem = network.get_submodule("encoder._conv_stem_padding")
    same = not isinstance(stem, nn.Identity)
    if same == (naming in _TENSORFLOW_PADDING):
        return ()
    wish = "same" if naming in _TENSORFLOW_PADDING else "symmetric"
    return (f"These weights were trained with padding “{wish}”; build {name} with it for the same features.",)


def _refusal(
    file: Path, name: str, coverage: float, missing: tuple[str, ...], mismatched: list[str]
) -> InputError:
    reasons = []
    if missing:
        reasons.append(f"{len(missing)} tensors are missing, the first {', '.join(missing[:3])}")
    if mismatched:
        reasons.append(f"{len(mismatched)} have another shape, the first {', '.join(mismatched[:3])}")
    return _error(
        f"The weights file “{file.name}” fits {coverage:.0%} of the backbone of {name}; "
        f"{LEAST_COVERAGE:.0%} are needed: {'; '.join(reasons)}.",
        f"Choose a file of {name} (torchvision, timm or transformers), or another network.",
    )


def _error(message: str, remedy: str) -> InputError:
    return InputError("training.pretrained", message, remedy)
