"""A trained model is deployed as a whole: pruned, trained further, in eight bits, for other systems."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import onnx
import pytest
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from monai.bundle import ConfigParser

from core.bundles.bundle import read_bundle
from core.bundles.onnx_check import check_onnx
from core.compute.deploy.deploy import deploy
from core.compute.deploy.request import Request
from core.compute.deploy.views import triton_config
from core.compute.inference.loaded import LoadedModel
from core.compute.inference.networks import load_network
from core.compute.training.run import train_recipe
from core.domain.errors import EnvironmentFault, InputError
from tests.fakes.bundles import make_classification_bundle, make_segmentation_bundle
from tests.fakes.multitask_bundles import make_multitask_bundle
from tests.fakes.shape_training import shape_recipe, write_shapes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run's folder and the data of its training."""
    folder = tmp_path_factory.mktemp("deploy")
    data = write_shapes(folder / "data", 24)
    run = folder / "run"
    train_recipe(shape_recipe(network__params={"channels": [8, 16]}), data=data, out=run, device="cpu")
    return run, data


@pytest.fixture(scope="module")
def pruned(
    trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """The document of a deployment of everything, and its folder."""
    run, data = trained
    out = tmp_path_factory.mktemp("deployed") / "out"
    found = deploy(
        run, formats="torchscript,onnx,monai,mlflow,triton", int8="static", prune=0.5, epochs=2, data=data,
        out=out, rounds=3,
    )  # fmt: skip
    return found, out


def test_the_document_has_the_fields_of_the_contract(pruned: tuple[dict[str, Any], Path]) -> None:
    document, out = pruned
    names = ["eager", "pruned", "torchscript", "onnxruntime", "int8_static"]
    assert [row["name"] for row in document["table"] if "bf16" not in row["name"]] == names
    for field in ("size_mb", "max_abs_difference", "latency_ms", "accuracy"):
        assert set(names) <= set(document[field])
    assert document["max_abs_difference"]["torchscript"] < 1e-4
    assert document["max_abs_difference"]["onnxruntime"] < 1e-4
    assert document["size_mb"]["pruned"] < 0.5 * document["size_mb"]["eager"]
    assert document["cases"] == document["table"][0]["cases"] >= 4
    assert all(Path(path).exists() for path in document["files"].values())
    assert json.loads((out / "deploy.json").read_text()) == document
    report = (out / "deploy.md").read_text()
    assert "INT8 static" in report and "multiply-adds" in report and report.count("**chosen**") == 1


def test_a_pruned_model_is_trained_further_and_judged_again(pruned: tuple[dict[str, Any], Path]) -> None:
    document, out = pruned
    pruning = document["pruning"]
    assert pruning["fine_tuned_epochs"] == 2
    for what in ("parameters", "operations", "bytes"):
        assert pruning[what]["after"] < 0.5 * pruning[what]["before"]
    tuned = read_bundle(out / "fine-tuning" / "bundle")
    assert tuned.manifest.version.endswith("-pruned") and "test_accuracy" in tuned.manifest.metrics
    rows = tuned.manifest.network.params["pruned"]  # type: ignore[union-attr]
    assert all(isinstance(row[0], str) and all(isinstance(n, int) for n in row[1:]) for row in rows)  # type: ignore


def test_a_pruned_bundle_holds_in_a_fresh_process(pruned: tuple[dict[str, Any], Path]) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom core.bundles.bundle import read_bundle\n"
        "from core.compute.selftest import run_selftest\n"
        "for path in sys.argv[1:]:\n    print(run_selftest(read_bundle(Path(path)), 'cpu').passed)\n"
        "print('torch_pruning' in sys.modules)\n"
    )
    folders = [str(pruned[1] / name) for name in ("pruned", "fine-tuning/bundle")]
    ran = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "True", "False"]


def test_a_bundle_may_hold_eight_bits_beside_the_exact_weights(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, data = trained
    document = deploy(run, formats=(), int8="static", data=data, out=tmp_path / "out", rounds=1)
    if document["bundle"] is None:
        assert any("not put into the bundle" in note for note in document["notes"])
        return
    bundle = read_bundle(Path(document["bundle"]))
    small = bundle.weights("onnx", "int8")
    assert small is not None and small.file == "weights/model.int8.onnx"
    assert bundle.identity.sha256 == read_bundle(run / "bundle").identity.sha256
    model = LoadedModel(bundle, "cpu")
    assert "onnxruntime-int8" in model.candidates()
    answer = model.backend("onnxruntime-int8")(torch.rand(1, 1, 24, 24))
    assert answer.shape == (1, 2)


def test_mlflow_loads_its_model_and_answers_as_the_network(pruned: tuple[dict[str, Any], Path]) -> None:
    document, out = pruned
    folder = document["files"]["mlflow"]
    network = load_network(read_bundle(out / "fine-tuning" / "bundle"))
    image = np.random.default_rng(0).random((3, 1, 24, 24), dtype=np.float32)
    answer = mlflow.pyfunc.load_model(folder).predict({"image": image})
    wanted = network(torch.from_numpy(image)).numpy()  # type: ignore[misc]
    assert np.abs(answer["logits"] - wanted).max() < 1e-4
    signature = mlflow.models.get_model_info(folder).signature
    assert signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 1, 24, 24)
    assert mlflow.onnx.load_model(folder).graph.input[0].name == "image"
    stored = json.loads((Path(folder) / "input_example.json").read_text())
    assert np.ptp(np.array(stored["image"])) > 0.9  # noise: no case of the data is passed on
    assert not [p for p in Path(folder).rglob("*") if p.suffix in (".pkl", ".pickle", ".pt", ".py")]


def test_monai_builds_network_and_inferer_from_the_configuration(
    pruned: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(pruned[0]["files"]["monai"])
    text = (folder / "configs" / "inference.json").read_text()
    assert "$" not in text
    monkeypatch.chdir(folder)
    warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.read_meta(str(folder / "configs" / "metadata.json"))
    image = torch.rand(2, 1, 24, 24)
    answer = parser.get_parsed_content("inferer")(image, parser.get_parsed_content("network"))
    network = load_network(read_bundle(pruned[1] / "fine-tuning" / "bundle"))
    assert torch.allclose(answer, network(image), atol=1e-4)  # type: ignore[misc]


def _triton_message() -> Any:
    """The part of Triton's ``model_config.proto`` that we write, with its field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    kinds = {"string": 9, "int32": 5, "int64": 3, "uint64": 4}
    data_types = file.enum_type.add(name="DataType")
    for name, number in (("TYPE_INVALID", 0), ("TYPE_INT64", 9), ("TYPE_FP32", 11)):
        data_types.value.add(name=name, number=number)
    group_kinds = file.enum_type.add(name="Kind")
    group_kinds.value.add(name="KIND_AUTO", number=0)

    def message(name: str, *fields: tuple[str, int, str, bool]) -> None:
        made = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = made.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in kinds:
                added.type = kinds[kind]
            else:
                added.type, added.type_name = (
                    (14 if kind in ("DataType", "Kind") else 11),
                    f".inference.{kind}",
                )

    tensor = (("name", 1, "string", False), ("data_type", 2, "DataType", False))
    message("ModelInput", *tensor, ("dims", 4, "int64", True))
    message("ModelOutput", *tensor, ("dims", 3, "int64", True))
    message("ModelInstanceGroup", ("count", 2, "int32", False), ("kind", 4, "Kind", False))
    message("ModelDynamicBatching", ("max_queue_delay_microseconds", 2, "uint64", False))
    message(
        "ModelConfig", ("name", 1, "string", False), ("backend", 17, "string", False),
        ("max_batch_size", 4, "int32", False), ("input", 5, "ModelInput", True), ("output", 6, "ModelOutput", True),
        ("instance_group", 7, "ModelInstanceGroup", True), ("dynamic_batching", 11, "ModelDynamicBatching", False),
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()


def test_triton_parses_the_configuration(pruned: tuple[dict[str, Any], Path]) -> None:
    home = Path(pruned[0]["files"]["triton"]) / "tiny-shapes"
    assert (home / "1" / "model.onnx").is_file()
    config = text_format.Parse((home / "config.pbtxt").read_text(), _triton_message())
    assert (config.name, config.backend, config.max_batch_size) == ("tiny-shapes", "onnxruntime", 16)
    assert [(item.name, list(item.dims)) for item in config.input] == [("image", [1, 24, 24])]
    assert [(item.name, list(item.dims)) for item in config.output] == [("logits", [2])]
    assert config.dynamic_batching.max_queue_delay_microseconds > 0


def test_triton_quotes_names(pruned: tuple[dict[str, Any], Path]) -> None:
    graph = Path(pruned[0]["files"]["onnx"]).read_bytes()
    config = text_format.Parse(triton_config('a"b', graph), _triton_message())
    assert config.name == 'a"b'


def test_a_bundle_of_a_graph_alone_is_deployed_too(tmp_path: Path) -> None:
    make_segmentation_bundle(tmp_path / "model")
    document = deploy(
        tmp_path / "model", formats="onnx,triton", int8="dynamic", out=tmp_path / "out", rounds=1
    )
    assert (
        document["input"]["source"] == "the model's reference input"
        and document["input"]["shape"][2:] == [16] * 3
    )
    assert document["max_abs_difference"]["onnxruntime"] == 0.0 and document["accuracy"]["eager"] is None
    assert "INT8 was not measured on cases: it was not put into the bundle." in document["notes"]
    with pytest.raises(InputError, match="comes as ONNX only"):
        deploy(tmp_path / "model", formats="torchscript", out=tmp_path / "other")


def test_dice_of_every_form_is_measured_on_volumes(tmp_path: Path) -> None:
    import nibabel

    from tests.fakes.bundles import expected_labels, make_volume

    make_segmentation_bundle(tmp_path / "model")
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for number in range(4):
        voxels = make_volume(seed=number).voxels
        affine = np.diag([-2.0, -2.0, 2.0, 1.0])
        for part, array in (("images", voxels), ("labels", expected_labels(voxels))):
            nibabel.save(nibabel.Nifti1Image(array.T, affine), tmp_path / "data" / part / f"{number}.nii.gz")
    document = deploy(
        tmp_path / "model",
        formats="onnx",
        int8="static",
        data=tmp_path / "data",
        out=tmp_path / "out",
        rounds=1,
    )
    assert document["cases"] == 3 and document["dice"]["onnxruntime"] == pytest.approx(1.0, abs=0.02)
    assert 0.5 < document["dice"]["int8_static"] <= 1.0 and document["accuracy"]["eager"] is None


@pytest.mark.parametrize(
    ("wish", "code", "remedy"),
    [
        ({"formats": ("onx",)}, "deploy.format", "onnx"),
        ({"formats": ()}, "deploy.format", "torchscript"),
        ({"prune": 0.99}, "deploy.prune", "0.9"),
        ({"int8": "half"}, "deploy.int8", "static"),
        ({"rounds": 0}, "deploy.rounds", "larger"),
        ({"data": Path("nowhere")}, "deploy.no_data", "path"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_at_once(
    tmp_path: Path, wish: dict[str, Any], code: str, remedy: str
) -> None:
    with pytest.raises(InputError) as refusal:
        Request(**{"formats": ("onnx",), "out": tmp_path / "out"} | wish).check()
    assert refusal.value.code == code and remedy in refusal.value.remedy
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    make_classification_bundle(tmp_path / "model")
    with pytest.raises(InputError, match="other files"):
        deploy(tmp_path / "model", formats="onnx", out=tmp_path / "model")
    assert read_bundle(tmp_path / "model").has_reference


def test_static_ranges_without_cases_are_refused(tmp_path: Path) -> None:
    make_classification_bundle(tmp_path / "model")
    with pytest.raises(InputError, match="needs real cases"):
        deploy(tmp_path / "model", formats="onnx", int8="static", out=tmp_path / "out")


def test_formats_whose_package_is_absent_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_classification_bundle(tmp_path / "model")
    monkeypatch.setattr("core.compute.deploy.onnx_files.has_openvino", lambda: False)
    with pytest.raises(EnvironmentFault, match="OpenVINO"):
        deploy(tmp_path / "model", formats="onnx,openvino", out=tmp_path / "out")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="MLflow"):
        deploy(tmp_path / "model", formats="mlflow", out=tmp_path / "out")


def test_a_model_of_several_tasks_keeps_its_named_outputs(tmp_path: Path) -> None:
    make_multitask_bundle(tmp_path / "model")
    document = deploy(
        tmp_path / "model", formats="onnx,mlflow,triton", int8="dynamic", out=tmp_path / "out", rounds=1
    )
    home = next((tmp_path / "out" / "triton").iterdir())
    config = text_format.Parse((home / "config.pbtxt").read_text(), _triton_message())
    assert [item.name for item in config.output] == ["segmentation", "classification", "regression"]
    signature = mlflow.models.get_model_info(document["files"]["mlflow"]).signature
    assert signature.outputs.input_names() == ["segmentation", "classification", "regression"]
    assert document["max_abs_difference"]["onnxruntime"] == 0.0


def test_a_graph_with_a_second_input_is_for_models_that_read(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["image"], ["logits"])
    given = [
        onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 2]),
        onnx.helper.make_tensor_value_info("text", onnx.TensorProto.INT64, ["N", 4]),
    ]
    answer = [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 2])]
    graph = onnx.helper.make_graph([node], "reads", given, answer)
    data = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]).SerializeToString()
    assert list(check_onnx(data, inputs=2).inputs) == ["image", "text"]
    with pytest.raises(InputError, match="2 inputs"):
        check_onnx(data)
    assert 'name: "text" data_type: TYPE_INT64 dims: [4]' in triton_config("reads", data)
