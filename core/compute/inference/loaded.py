"""Models that are in memory: one bundle's engines, and a small cache of the last used ones."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from torch import nn

from core.bundles.bundle import Bundle
from core.bundles.onnx_check import check_onnx
from core.compute.inference.backends import (
    Engine,
    OnnxBackend,
    OpenVinoBackend,
    TorchBackend,
    cpu_has_bf16,
)
from core.compute.inference.fused import can_fuse
from core.compute.inference.networks import load_network, save_memory
from core.domain.errors import InputError

_KEPT = 2


class LoadedModel:
    """The engines of one bundle on one device, each made when first asked for.

    Raises
    ------
    InputError
        From the weights, see ``load_network`` and ``check_onnx``.
    """

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.bundle = bundle
        self.device = device
        self._dims = 3 if bundle.manifest.is_3d else 2
        weights = bundle.weights("onnx")
        self._onnx = bundle.read(weights.file) if weights is not None else None
        self._inputs = 1 if bundle.manifest.text is None else 2
        if self._onnx is not None:
            check_onnx(self._onnx, inputs=self._inputs)
        small = bundle.weights("onnx", "int8")
        self._small_file = None if small is None else small.file
        text = bundle.manifest.text
        self._text_tokens = 0 if text is None else text.max_tokens
        self._has_network = bundle.manifest.network is not None
        self._backends: dict[str, Engine] = {}
        self._network: nn.Module | None = None
        self.chosen: Engine | None = None

    @property
    def has_network(self) -> bool:
        """Whether there is a torch network (gradients are possible)."""
        return self._has_network

    def network(self) -> nn.Module:
        """Return the torch network for attribution; it is on ``device`` and not shared with an engine."""
        if self._network is None:
            network = load_network(self.bundle)
            if network is None:
                raise InputError(
                    "explain.no_network",
                    f"{self.bundle.manifest.title} comes as ONNX only: its inside can't be looked into.",
                    "Choose the method “occlusion”, which needs only its answers.",
                )
            self._network = network.to(self.device)
        return self._network

    def exact_name(self) -> str:
        """Name of the engine that all others are held against."""
        return "torch" if self._has_network else "onnxruntime"

    def candidates(self) -> tuple[str, ...]:
        """Names of the engines that could run here, those that are mostly fastest first."""
        if self.device == "cuda":
            on_gpu = ("torch-fp16", "torch-bf16", "torch-folded", "torch")
            return on_gpu if self._has_network else ("onnxruntime",)
        low = cpu_has_bf16()
        vino = self._onnx is not None and has_openvino()
        possible = {
            "openvino-bf16": vino and low,
            "onnxruntime-int8": self._small_file is not None,
            "torch-bf16": self._has_network and low,
            "openvino": vino,
            "torch-fused": self._has_network and can_fuse(),
            "torch-folded": self._has_network and not can_fuse(),
            "onnxruntime": self._onnx is not None,
        }
        return tuple(name for name, there in possible.items() if there)

    def backend(self, name: str) -> Engine:
        """Return the engine of that name."""
        if name not in self._backends:
            self._backends[name] = self._make(name)
        return self._backends[name]

    def thrifty(self) -> Engine | None:
        """Return an exact engine that works on parts of the image at a time; None when the network can't."""
        network = load_network(self.bundle)
        if network is None or not save_memory(network):
            return None
        self._backends.clear()
        return TorchBackend(network, "torch", self.device, self._dims, text_tokens=self._text_tokens)

    def keep_only(self, name: str) -> None:
        """Free the engines that are not used."""
        self._backends = {name: self._backends[name]} if name in self._backends else {}

    def _make(self, name: str) -> Engine:
        text = {"text_tokens": self._text_tokens} if self._text_tokens else {}
        if name.startswith("torch"):
            network = load_network(self.bundle)
            assert network is not None
            several = self.bundle.manifest.task == "multitask"
            return TorchBackend(network, name, self.device, self._dims, autocast=several, **text)
        if name == "onnxruntime-int8":
            assert self._small_file is not None
            small = self.bundle.read(self._small_file)
            check_onnx(small, inputs=self._inputs)
            return OnnxBackend(small, "cpu", name, **text)
        assert self._onnx is not None
        if name.startswith("openvino"):
            return OpenVinoBackend(self._onnx, name, **text)
        return OnnxBackend(self._onnx, self.device, "onnxruntime", **text)


class ModelCache:
    """Keeps the last few models warm; one thread at a time."""

    def __init__(self, limit: int = _KEPT) -> None:
        self._models: OrderedDict[tuple[Path, str, str], LoadedModel] = OrderedDict()
        self._limit = limit

    def get(self, bundle: Bundle, device: str) -> LoadedModel:
        """Return the loaded model, loading it when needed."""
        key = (bundle.path, bundle.identity.sha256, device)
        if key not in self._models:
            self._models[key] = LoadedModel(bundle, device)
        self._models.move_to_end(key)
        while len(self._models) > self._limit:
            self._models.popitem(last=False)
        return self._models[key]

    def forget(self, bundle: Bundle) -> None:
        """Drop a bundle on all devices."""
        for key in [key for key in self._models if key[0] == bundle.path]:
            del self._models[key]


def has_openvino() -> bool:
    """Whether the optional package is installed."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None
