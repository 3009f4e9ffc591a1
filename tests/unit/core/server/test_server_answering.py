"""Answers of the model process are those of ``run_bundle``, alone and together."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.bundles.bundle import Bundle
from core.compute.inference.run import run_bundle
from core.domain.segmentation import Segmentation
from core.formats.images import read_image_bytes
from core.formats.nifti import read_nifti, write_nifti
from core.jobs.served import Prediction, Refusal
from core.server.answering import Answerer
from core.server.item import Answer, Item, Upload
from core.server.kinds import kind_of
from core.server.limits import Limits
from core.services.measure import measure_segments
from tests.fakes.bundles import make_segmentation_bundle, make_volume
from tests.fakes.dicom_files import write_stack
from tests.fakes.served_app import mednist, png


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    folder = tmp_path_factory.mktemp("home")
    return Answerer(mednist(), "cpu", Limits(pixels=10_000), folder / "probes", folder)


def picture(seed: int, size: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size)).astype(np.uint8)
    with io.BytesIO() as stream:
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()


def upload(data: bytes) -> Upload:
    return Upload(kind_of(data[:4096]), data)


def answers(answerer: Answerer, *items: Item) -> list[Answer]:
    return answerer.answer([answerer.prepare(item) for item in items])


def document(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, Refusal.model_validate_json(answer.body).error.code


def test_pictures_answered_together_have_the_numbers_of_a_run(classifier: Answerer) -> None:
    pictures = [picture(seed) for seed in range(5)] + [picture(9, 80)]
    together = answers(classifier, *(Item((upload(data),)) for data in pictures))
    for data, answer in zip(pictures, together, strict=True):
        alone = run_bundle(mednist(), read_image_bytes(data), device="cpu", backend="exact")
        found = Prediction.model_validate(document(answer))
        truth = {each.label: each.probability for each in alone.classes}
        assert found.probabilities == pytest.approx(truth, abs=1e-5)
        assert found.prediction == alone.classes[0].label
        assert found.confidence == found.probabilities[alone.classes[0].label]
        assert found.prediction_set == list(alone.prediction_set)
        assert found.uncertainty == pytest.approx(alone.uncertainty, abs=1e-5)
        assert found.out_of_distribution == pytest.approx(alone.out_of_distribution, abs=1e-3)
        assert found.model_version == "v1.0.0"
    assert {answer.batch for answer in together} == {6}


def test_classes_keep_the_order_of_the_manifest(classifier: Answerer) -> None:
    (answer,) = answers(classifier, Item((upload(png()),)))
    assert list(document(answer)["probabilities"]) == [label.name for label in mednist().manifest.labels]


def test_a_damaged_picture_fails_alone(classifier: Answerer) -> None:
    good, cut = upload(picture(1)), upload(picture(2)[:200])
    first, second, third = answers(classifier, Item((good,)), Item((cut,)), Item((good,)))
    assert document(first)["probabilities"] == document(third)["probabilities"]
    assert code_of(second) == (422, "image.damaged")


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(classifier: Answerer) -> None:
    (answer,) = answers(classifier, Item((upload(picture(0, 101)),)))
    assert code_of(answer) == (413, "image.too_large")


def test_an_engine_that_fails_for_one_picture_fails_for_no_other(
    classifier: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = classifier._engine
    bad = classifier.prepare(Item((upload(picture(3)),)))
    assert bad.picture is not None

    class Choosy:
        name, device, exact = engine.name, engine.device, engine.exact

        def __call__(self, batch: Any, cancel: Any = None) -> Any:
            if any((row == bad.picture).all() for row in batch):
                raise MemoryError
            return engine(batch)

    monkeypatch.setattr(classifier, "_engine", Choosy())
    prepared = [classifier.prepare(Item((upload(picture(seed)),))) for seed in range(3)]
    found = classifier.answer([*prepared[:2], bad, prepared[2]])
    assert [answer.status for answer in found] == [200, 200, 413, 200]
    assert code_of(found[2])[1] == "run.memory"


def test_features_come_when_asked_for(classifier: Answerer) -> None:
    with_features, without = answers(
        classifier, Item((upload(png()),), features=True), Item((upload(png()),))
    )
    assert len(document(with_features)["features"]) == 128
    assert "features" not in document(without)


def test_a_volume_is_refused_by_a_picture_model(classifier: Answerer, tmp_path: Path) -> None:
    volume = make_volume()
    data = write_nifti(tmp_path / "v.nii.gz", volume.geometry, volume.voxels).read_bytes()
    (answer,) = answers(classifier, Item((upload(data),)))
    assert code_of(answer) == (422, "run.kind")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    folder = tmp_path_factory.mktemp("home")
    bundle: Bundle = make_segmentation_bundle(folder / "bundle")
    return Answerer(bundle, "cpu", Limits(voxels=30_000), folder / "probes", folder)


def test_a_segmentation_is_measured_and_returned_on_the_grid_of_the_image(
    segmenter: Answerer, tmp_path: Path
) -> None:
    given = make_volume()
    file = write_nifti(tmp_path / "v.nii.gz", given.geometry, given.voxels)
    (answer,) = answers(segmenter, Item((upload(file.read_bytes()),), label_map=True))
    found = Prediction.model_validate(document(answer))
    volume = read_nifti(file)
    labels = run_bundle(segmenter.bundle, volume, device="cpu").labels
    assert labels is not None
    truth = measure_segments(volume, Segmentation(volume.geometry, labels, segmenter.bundle.segments))
    assert [(one.label, one.voxels) for one in found.segments] == [(one.label, one.voxels) for one in truth]
    assert [one.volume_ml for one in found.segments] == pytest.approx([one.volume_ml for one in truth])
    assert found.prediction is None
    assert found.label_map_nifti is not None
    back = tmp_path / "labels.nii.gz"
    back.write_bytes(base64.b64decode(found.label_map_nifti))
    returned = read_nifti(back)
    assert np.array_equal(returned.voxels, labels)
    assert np.allclose(returned.geometry.lps_from_ijk, volume.geometry.lps_from_ijk, atol=1e-4)
    assert not [path for path in segmenter._temp.iterdir() if path.name.startswith(("serve-", "tmp"))]


def test_a_volume_with_too_many_voxels_is_refused_before_it_is_read(
    segmenter: Answerer, tmp_path: Path
) -> None:
    volume = make_volume((40, 40, 40))
    data = write_nifti(tmp_path / "v.nii.gz", volume.geometry, volume.voxels).read_bytes()
    (answer,) = answers(segmenter, Item((upload(data),)))
    assert code_of(answer) == (413, "upload.too_large")


def test_an_archive_of_anything_but_images_is_refused(segmenter: Answerer) -> None:
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("../../escape.txt", "no image")
        data = stream.getvalue()
    whole, cut = answers(segmenter, Item((upload(data),)), Item((upload(data[:60]),)))
    assert code_of(whole) == (422, "upload.no_image")
    assert code_of(cut) == (422, "zip.damaged")


def zipped(*files: Path) -> bytes:
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, file in enumerate(files):
                archive.write(file, f"PATIENT/{number}")
        return stream.getvalue()


def test_a_series_in_an_archive_is_answered_as_the_series(segmenter: Answerer, tmp_path: Path) -> None:
    given = make_volume((12, 28, 32))
    files = write_stack(tmp_path / "a", given.voxels, given.geometry)
    (answer,) = answers(segmenter, Item((upload(zipped(*files[::-1])),)))
    found = Prediction.model_validate(document(answer))
    labels = run_bundle(segmenter.bundle, given, device="cpu").labels
    assert labels is not None
    assert [one.voxels for one in found.segments] == [
        int((labels == one.value).sum()) for one in found.segments
    ]
    other = write_stack(tmp_path / "b", given.voxels, given.geometry, number=2)
    (answer,) = answers(segmenter, Item((upload(zipped(*files, *other)),)))
    assert code_of(answer) == (422, "upload.several_series")
    scout = write_stack(tmp_path / "c", given.voxels[:1], number=3)
    (answer,) = answers(segmenter, Item((upload(zipped(*files, *scout)),)))
    assert (
        document(answer)["segments"]
        == document(answers(segmenter, Item((upload(zipped(*files)),)))[0])["segments"]
    )


def test_a_dicom_file_is_answered_as_its_picture(classifier: Answerer, tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.int16).reshape(1, 64, 64) % 255
    (file,) = write_stack(tmp_path / "a", pixels, modality="MR", intercept=0.0)
    (answer,) = answers(classifier, Item((upload(file.read_bytes()),)))
    assert document(answer)["prediction"] in {label.name for label in mednist().manifest.labels}
