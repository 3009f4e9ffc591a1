"""A trained model in the forms that other runtimes take, each checked, timed and judged against the original."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from core.bundles.bundle import Bundle
from core.compute.deploy.bundling import with_int8
from core.compute.deploy.cases import Cases, find_cases
from core.compute.deploy.engines import Inputs, Variant, compare, time_interleaved
from core.compute.deploy.int8 import Feed, Kind, feed_of, quantised
from core.compute.deploy.measuring import (
    invented_inputs,
    measure_quality,
    recorded_inputs,
    reference_inputs,
)
from core.compute.deploy.onnx_files import check_graph, check_openvino, onnx_graph, opset_of, write_openvino
from core.compute.deploy.request import REPORT_FILE, TABLE_FILE, Request, parsed_formats
from core.compute.deploy.slimming import PRUNED_FOLDER, TUNING_FOLDER, Slimmed, slim
from core.compute.deploy.table import LOSS_ALLOWED, QUALITIES, choose, column, lost, markdown, rows_of
from core.compute.deploy.torchscript import load_torchscript, torchscript_of
from core.compute.deploy.views import write_mlflow, write_monai, write_triton
from core.compute.evaluation.assess import json_ready
from core.compute.evaluation.run import UNKNOWN_TRAINING, OpenedModel, open_model
from core.compute.inference.backends import (
    Engine,
    OnnxBackend,
    OpenVinoBackend,
    TorchBackend,
    cpu_has_bf16,
)
from core.compute.inference.loaded import LoadedModel
from core.compute.inference.networks import load_network
from core.compute.inference.probe import choose_backend
from core.config.atomic import atomic_write_bytes, atomic_write_text
from core.domain.errors import AppError, InputError
from core.domain.progress import CancelToken, Progress, no_progress
from models.networks.parts import parts_of

_CHECKED, _CALIBRATED = 4, 96
_BUNDLE_FOLDER = "bundle"
_COLUMNS = ("size_mb", "max_abs_difference", "latency_ms", "latency_ratio")
_TITLES = {
    "eager": "torch, float32",
    "channels_last_bf16": "torch, channels last, bfloat16",
    "torchscript": "TorchScript",
    "onnxruntime": "ONNX Runtime, float32",
    "int8_static": "ONNX Runtime, INT8 static",
    "int8_dynamic": "ONNX Runtime, INT8 dynamic",
    "openvino": "OpenVINO, float32",
    "openvino_bf16": "OpenVINO, bfloat16",
    "pruned": "torch, float32, pruned",
}


def deploy(
    model: str | Path,
    *,
    formats: str | Sequence[str] = ("torchscript", "onnx"),
    int8: Literal["static", "dynamic", "both"] | None = None,
    prune: float | None = None,
    data: Path | None = None,
    calibration: Path | None = None,
    out: Path,
    home: Path | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    recipe: str | None = None,
    rounds: int = 10,
    private_key_file: Path | None = None,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Deploy a bundle, or the bundle of a training, as the command line does.

    Parameters
    ----------
    model : str or pathlib.Path
        As ``open_model``: a bundle's path, a run's folder, a checkpoint in it, or a model of the catalogue.
    formats : str or sequence of str
        ``torchscript``, ``onnx``, ``openvino``, ``monai``, ``mlflow``, ``triton``.
    prune : float, optional
        Share of the channels to remove; the forms are then those of the pruned model.
    data : pathlib.Path, optional
        Cases with a known answer, to calibrate with and to measure on (never the same ones).
    out : pathlib.Path
        An empty or new folder, or that of an earlier deployment.

    Returns
    -------
    dict
        ``files``, and by form ``size_mb``, ``max_abs_difference``, ``latency_ms``, ``latency_ratio``, ``accuracy``,
        ``dice``, ``numbers``; ``table`` (a row per form), ``chosen``, ``pruning``, ``notes``, ``bundle`` (with INT8 or
        pruned).
        Also written to ``deploy.json`` and ``deploy.md``.

    Raises
    ------
    InputError, EnvironmentFault
        See ``Request.check``; what can't be made says why and what to do instead.
    Cancelled
        Between two steps; the folder may hold some of the files.
    """
    request = Request(
        parsed_formats(formats),
        out,
        int8,
        prune,
        data,
        calibration,
        limit,
        epochs,
        recipe,
        rounds,
        private_key_file,
    )
    request.check()
    opened = open_model(model, home)
    job = _Job(opened, request, progress, cancel)
    return job.run()


@dataclass(eq=False)
class _Job:
    """One deployment."""

    original: OpenedModel
    request: Request
    progress: Progress
    cancel: CancelToken | None
    variants: list[Variant] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    final: Bundle | None = None

    def run(self) -> dict[str, Any]:
        """Prune, write, compare, time, measure, choose, report."""
        self._step("Loading the model", 0.0)
        bundle = self.original.bundle
        network = load_network(bundle)
        self._prepare_folder(network)
        self._add("eager", _plain_engine(bundle, network), _stored_bytes(bundle), exact=True)
        slimmed = self._slim(network)
        subject = self.original if slimmed is None else slimmed.model
        cases = find_cases(subject, self.request.data, self.request.calibration, self.request.limit)
        self.notes += cases.notes
        inputs, source = self._inputs(bundle, network, cases)
        if slimmed is not None:
            bundle, network = slimmed.model.bundle, load_network(slimmed.model.bundle)
            assert network is not None
            self._add("pruned", _plain_engine(bundle, network), _stored_bytes(bundle), exact=False)
        self._write_forms(bundle, network, inputs, cases)
        self._measure(bundle, inputs, cases)
        self._finish_bundle(bundle, slimmed)
        return self._report(inputs[0], source, slimmed)

    def _prepare_folder(self, network: nn.Module | None) -> None:
        wishes = self.request
        if network is None and (wishes.prune is not None or {"torchscript", "monai"} & set(wishes.formats)):
            raise InputError(
                "deploy.onnx_only",
                f"{self.original.bundle.manifest.title} comes as ONNX only: it has no network to trace or to prune.",
                "Deploy it as onnx, openvino, mlflow or triton, or with --int8.",
            )
        wishes.out.mkdir(parents=True, exist_ok=True)
        # What an earlier deployment left must not stand beside the new report.
        for name in ("openvino", "monai", "mlflow", "triton", _BUNDLE_FOLDER, PRUNED_FOLDER, TUNING_FOLDER):
            shutil.rmtree(wishes.out / name, ignore_errors=True)
        for name in (
            "model.ts",
            "model.onnx",
            "model.int8_static.onnx",
            "model.int8_dynamic.onnx",
            TABLE_FILE,
        ):
            (wishes.out / name).unlink(missing_ok=True)
        # From now on the folder is a deployment's, also when this one fails.
        atomic_write_text(wishes.out / REPORT_FILE, "{}\n")

    def _slim(self, network: nn.Module | None) -> Slimmed | None:
        if self.request.prune is None:
            return None
        assert network is not None
        bundle = self.original.bundle
        given = reference_inputs(bundle, self.variants[0].engine) or invented_inputs(
            bundle, parts_of(network).divisor
        )
        made = slim(self.original, network, given[0], self.request, self.progress, self.cancel)
        if not made.epochs:
            self.notes.append(
                "The pruned model was not trained further (no recipe, no data, or --epochs 0): expect it to be worse."
            )
        elif self.original.run_folder is None:
            self.notes.append(UNKNOWN_TRAINING)
        if any(not gate["passed"] for gate in made.gates):
            self.notes.append("The pruned model does not pass its gates.")
        return made

    def _inputs(self, bundle: Bundle, network: nn.Module | None, cases: Cases) -> tuple[list[Inputs], str]:
        """Return what the forms are compared and timed on, and where it comes from."""
        engine = self.variants[0].engine
        if cases.tested is not None:
            found = recorded_inputs(bundle, engine, cases.tested, _CHECKED, self.cancel)
            return _varied(bundle, found), "real cases"
        if found := reference_inputs(bundle, engine):
            return _varied(bundle, found), "the model's reference input"
        self.notes.append("There is no real input: the forms were compared and timed on noise.")
        noise = invented_inputs(bundle, 1 if network is None else parts_of(network).divisor)
        return _varied(bundle, noise), "noise"

    def _write_forms(
        self, bundle: Bundle, network: nn.Module | None, inputs: list[Inputs], cases: Cases
    ) -> None:
        wishes, tokens = self.request, _tokens(bundle)
        script, graph = None, None
        if network is not None and cpu_has_bf16():
            # Several heads calculate partly in float32, as the program's own engine lets them.
            several = bundle.manifest.task == "multitask"
            low = TorchBackend(
                copy.deepcopy(network),
                "torch-bf16",
                "cpu",
                _dims(bundle),
                text_tokens=tokens,
                autocast=several,
            )
            self._add_low("channels_last_bf16", low, _stored_bytes(bundle), inputs[0])
        if network is not None and {"torchscript", "monai"} & set(wishes.formats):
            self._step("Writing TorchScript", 0.4)
            script = torchscript_of(network, inputs[0].tensors, inputs[-1].repeated(2).tensors)
            engine = TorchBackend(load_torchscript(script), "torch", "cpu", _dims(bundle), text_tokens=tokens)
            self._add("torchscript", engine, len(script), exact=True)
            if "torchscript" in wishes.formats:
                self._write("torchscript", "model.ts", script)
        if {"onnx", "openvino", "mlflow", "triton"} & set(wishes.formats) or wishes.int8:
            self._step("Writing ONNX", 0.45)
            graph = onnx_graph(bundle, network, inputs[0])
            check_graph(graph, network, inputs, tokens)
            self._add("onnxruntime", OnnxBackend(graph, "cpu", text_tokens=tokens), len(graph), exact=True)
            if "onnx" in wishes.formats:
                self._write("onnx", "model.onnx", graph)
        if graph is not None:
            self._quantise(bundle, graph, cases)
            self._openvino(bundle, network, graph, inputs)
        self._write_views(bundle, network, script, graph)

    def _quantise(self, bundle: Bundle, graph: bytes, cases: Cases) -> None:
        kinds: dict[str | None, tuple[Kind, ...]] = {
            "static": ("static",), "dynamic": ("dynamic",), "both": ("static", "dynamic"), None: (),
        }  # fmt: skip
        for kind in kinds[self.request.int8]:
            self._step(f"Quantising ({kind})", 0.5)
            feeds = self._feeds(bundle, graph, cases) if kind == "static" else ()
            data = quantised(graph, kind, feeds)
            engine = OnnxBackend(data, "cpu", "onnxruntime-int8", text_tokens=_tokens(bundle))
            self._add(f"int8_{kind}", engine, len(data), exact=False)
            self._write(f"int8_{kind}", f"model.int8_{kind}.onnx", data)

    def _feeds(self, bundle: Bundle, graph: bytes, cases: Cases) -> list[Feed]:
        if cases.calibration is None:
            return []
        engine = OnnxBackend(graph, "cpu", text_tokens=_tokens(bundle))
        found = recorded_inputs(bundle, engine, cases.calibration, _CALIBRATED, self.cancel)
        return [feed_of(graph, [tensor.numpy() for tensor in given.tensors]) for given in found]

    def _openvino(
        self, bundle: Bundle, network: nn.Module | None, graph: bytes, inputs: list[Inputs]
    ) -> None:
        tokens = _tokens(bundle)
        if "openvino" not in self.request.formats:
            return
        self._step("Writing OpenVINO", 0.55)
        xml, weights = write_openvino(graph, self.request.out / "openvino")
        size = xml.stat().st_size + weights.stat().st_size
        self.files["openvino"] = str(xml)
        check_openvino(xml, _plain_engine(bundle, network), inputs)
        self._add("openvino", OpenVinoBackend(graph, "openvino", text_tokens=tokens), size, exact=True)
        if cpu_has_bf16():
            low = OpenVinoBackend(graph, "openvino-bf16", text_tokens=tokens)
            self._add_low("openvino_bf16", low, size, inputs[0])

    def _write_views(
        self, bundle: Bundle, network: nn.Module | None, script: bytes | None, graph: bytes | None
    ) -> None:
        formats, out = self.request.formats, self.request.out
        if "monai" in formats:
            assert script is not None
            self.files["monai"] = str(write_monai(bundle, script, out / "monai"))
        if "mlflow" in formats:
            self._step("Writing for MLflow", 0.58)
            assert graph is not None
            divisor = bundle.manifest.inference.divisor if network is None else parts_of(network).divisor
            self.files["mlflow"] = str(write_mlflow(bundle, graph, divisor, out / "mlflow"))
        if "triton" in formats:
            assert graph is not None
            self.files["triton"] = str(write_triton(bundle, graph, out / "triton"))

    def _measure(self, bundle: Bundle, inputs: list[Inputs], cases: Cases) -> None:
        self._step("Comparing the forms", 0.6)
        compare(self.variants, inputs)
        self._step("Timing the forms", 0.65)
        time_interleaved(self.variants, inputs[0], self.request.rounds, self.cancel)
        if cases.tested is not None:

            def part(phase: str, fraction: float) -> None:
                self.progress(phase, 0.7 + 0.2 * fraction)

            measure_quality(bundle, self.variants, cases.tested, progress=part, cancel=self.cancel)
        choose(self.variants)

    def _finish_bundle(self, bundle: Bundle, slimmed: Slimmed | None) -> None:
        """Write the bundle that holds eight bits, when they keep the answers; else the pruned one is the result."""
        self.final = None if slimmed is None else bundle
        small = next((v for v in self.variants if v.name.startswith("int8")), None)
        if small is None:
            return
        plain = next(v for v in self.variants if v.name == ("eager" if slimmed is None else "pruned"))
        loss = lost(small, plain)
        if loss is None or loss > LOSS_ALLOWED:
            why = "was not measured on cases" if loss is None else f"loses {100 * loss:.1f} points"
            self.notes.append(f"INT8 {why}: it was not put into the bundle.")
            return
        graphs = [Path(self.files[small.name]).read_bytes()]
        exact = self.request.out / "model.onnx"
        known = bundle.weights("onnx")
        graphs.append(bundle.read(known.file) if known is not None else exact.read_bytes())
        self.final = with_int8(
            bundle, graphs[0], graphs[1], self.request.out / _BUNDLE_FOLDER, self.request.key
        )

    def _report(self, given: Inputs, source: str, slimmed: Slimmed | None) -> dict[str, Any]:
        self._step("Writing the report", 0.95)
        manifest = self.original.bundle.manifest
        document: dict[str, Any] = {
            "model": {"id": manifest.id, "version": manifest.version, "task": manifest.task},
            "files": self.files,
            **{name: column(self.variants, name) for name in (*_COLUMNS, *QUALITIES)},
            "cases": self.variants[0].cases,
            "chosen": next(v.name for v in self.variants if v.chosen),
            "table": rows_of(self.variants),
            "input": {"source": source, "shape": list(given.image.shape)},
            "threads": torch.get_num_threads(),
            "opset": self._opset(),
            "pruning": None if slimmed is None else slimmed.document(self.original.bundle),
            "bundle": None if self.final is None else str(self.final.path),
            "probe": None if self.final is None else _probed(self.final),
            "notes": self.notes,
        }
        document["files"] |= {
            "report": str(self.request.out / TABLE_FILE), "report_json": str(self.request.out / REPORT_FILE)
        }  # fmt: skip
        document = json_ready(document)
        atomic_write_text(self.request.out / TABLE_FILE, markdown(manifest.title, document))
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        atomic_write_text(self.request.out / REPORT_FILE, text + "\n")
        self.progress("Done", 1.0)
        return document

    def _opset(self) -> int | None:
        file = self.request.out / "model.onnx"
        return opset_of(file.read_bytes()) if file.is_file() else None

    def _add(self, name: str, engine: Engine, size: int, *, exact: bool) -> None:
        pruned = any(v.name == "pruned" for v in self.variants)
        title = _TITLES[name] + (", pruned" if pruned else "")
        variant = Variant(name, title, engine, size, exact and not pruned, "pruned" if pruned else "")
        self.variants.append(variant)

    def _add_low(self, name: str, engine: Engine, size: int, given: Inputs) -> None:
        """Add a form of lower precision, unless the network can't calculate in it."""
        try:
            engine.outputs(given.image, given.text)
        except (AppError, RuntimeError) as error:
            self.notes.append(f"{_TITLES[name]} can't run this network ({type(error).__name__}).")
            return
        self._add(name, engine, size, exact=False)

    def _write(self, form: str, name: str, data: bytes) -> None:
        atomic_write_bytes(self.request.out / name, data)
        self.files[form] = str(self.request.out / name)

    def _step(self, phase: str, fraction: float) -> None:
        if self.cancel is not None:
            self.cancel.raise_if_cancelled()
        self.progress(phase, fraction)


def _plain_engine(bundle: Bundle, network: nn.Module | None) -> Engine:
    """Return the network as it is; of a bundle without one, its graph."""
    tokens = _tokens(bundle)
    if network is not None:
        return TorchBackend(network, "torch", "cpu", _dims(bundle), text_tokens=tokens)
    weights = bundle.weights("onnx")
    assert weights is not None
    return OnnxBackend(bundle.read(weights.file), "cpu", text_tokens=tokens)


def _varied(bundle: Bundle, inputs: list[Inputs]) -> list[Inputs]:
    """Add what a trace could have missed: a contrast that is not there, a report where there was none, and none."""
    manifest, first = bundle.manifest, inputs[0]
    more = []
    if manifest.missing_inputs == "zeros":
        image = first.image.clone()
        image[:, -1] = 0
        more.append(Inputs(image, first.text))
    if manifest.text is not None:
        words = len(bundle.read(manifest.text.vocabulary_file).splitlines())
        ids = torch.arange(1, manifest.text.max_tokens + 1)[None] % words
        more += [Inputs(first.image, torch.zeros_like(ids)), Inputs(first.image, ids)]
    return [*inputs, *more]


def _tokens(bundle: Bundle) -> int:
    return 0 if bundle.manifest.text is None else bundle.manifest.text.max_tokens


def _dims(bundle: Bundle) -> int:
    return 3 if bundle.manifest.is_3d else 2


def _stored_bytes(bundle: Bundle) -> int:
    weights = bundle.weights("safetensors") or bundle.weights("onnx")
    assert weights is not None
    return len(bundle.read(weights.file))


def _probed(bundle: Bundle) -> str | None:
    """Return the engine that the program itself would run the new bundle with on this machine."""
    try:
        _, result = choose_backend(LoadedModel(bundle, "cpu"))
    except AppError:
        return None
    return result.chosen
