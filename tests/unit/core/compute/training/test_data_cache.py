import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.compute.training.data.cache import CaseCache, case_key
from core.compute.training.data.cache_file import CachedCase, compact, read_case_file
from core.compute.training.data.patches import cut, draw_starts
from core.compute.training.data.prepare import Sample
from core.config.sealed_file import is_sealed, mounted
from core.recipes.schema import Sampling
from tests.fakes.training_cases import ball_and_slab, volume_recipe, write_volume


def sample(seed: int = 0, shape: tuple[int, int, int] = (16, 16, 16)) -> Sample:
    hu, labels = ball_and_slab(shape, seed)
    image = torch.from_numpy(hu.astype(np.float32) / 1000)[None]
    return Sample(image, torch.from_numpy(labels), f"case-{seed}", (3.0, 1.5, 1.5))


def key(number: int) -> str:
    return f"{number:064x}"


def forbidden() -> Sample:
    raise AssertionError("the case was prepared again")


def cache(folder: Path | None, memory_mb: int = 0, disk_mb: int = 64) -> CaseCache:
    return CaseCache(folder, memory_mb=memory_mb, disk_mb=disk_mb)


def test_a_case_comes_back_within_half_a_step_of_float16(tmp_path):
    made = sample()
    cache(tmp_path).get(key(1), lambda: made)
    image, label = cache(tmp_path).get(key(1), forbidden).whole()
    assert image.dtype == torch.float32
    assert torch.equal(image, made.image.half().float())
    assert float((image - made.image).abs().max()) <= 5e-4 * float(made.image.max() - made.image.min())
    assert torch.equal(label, made.target)


@pytest.mark.parametrize(
    "values", [np.linspace(10_000, 10_010, 4096), np.linspace(0, 1e6, 4096), np.full(4096, 0.3)]
)
def test_values_that_float16_would_spoil_stay_float32(tmp_path, values):
    image = torch.from_numpy(values.astype(np.float32)).reshape(1, 16, 16, 16)
    cache(tmp_path).get(key(1), lambda: Sample(image, torch.zeros(16, 16, 16, dtype=torch.uint8)))
    again = cache(tmp_path).get(key(1), forbidden)
    assert again.image.dtype == np.float32
    assert torch.equal(again.whole()[0], image)


def test_a_picture_without_a_label_map_is_kept(tmp_path):
    picture = Sample(torch.rand(3, 20, 30), 2)
    cache(tmp_path).get(key(1), lambda: picture)
    image, label = cache(tmp_path).get(key(1), forbidden).whole()
    assert image.shape == (3, 20, 30)
    assert label is None


def test_foreground_index_and_voxel_counts_are_those_of_the_label_map(tmp_path):
    made = sample(3)
    cache(tmp_path).get(key(1), lambda: made)
    again = cache(tmp_path).get(key(1), forbidden)
    flat = made.target.numpy().ravel()
    assert dict(again.voxels) == {int(v): int((flat == v).sum()) for v in np.unique(flat)}
    assert set(again.foreground) == {1, 3}
    for value, index in again.foreground.items():
        assert np.array_equal(index, np.flatnonzero(flat == value))


def test_a_large_label_keeps_an_even_sample_of_its_voxels():
    label = torch.ones(40, 40, 40, dtype=torch.uint8)
    index = compact(Sample(torch.zeros(1, 40, 40, 40), label), seed=1).foreground[1]
    assert len(np.unique(index)) == 10_000
    thirds = np.histogram(index, bins=4, range=(0, 64_000))[0]
    assert thirds.min() > 2300


def test_a_large_case_is_mapped_and_a_crop_equals_the_slice(tmp_path):
    made = sample(2, (96, 128, 128))
    store = cache(tmp_path)
    found = store.get(key(1), lambda: made)
    assert isinstance(found, CachedCase)
    assert not found.image.flags.owndata
    assert store.held_bytes == 0
    image, label = found.crop((3, 40, 50), (64, 32, 16))
    window = (slice(3, 67), slice(40, 72), slice(50, 66))
    assert torch.equal(image, made.image[(slice(None), *window)].half().float())
    assert torch.equal(label, made.target[window])


@pytest.mark.parametrize("place", [0, 9, 40, 300, -70, -9_000])
def test_a_changed_byte_is_noticed_and_the_case_made_again(tmp_path, place):
    cache(tmp_path).get(key(1), sample)
    path = next(tmp_path.glob("*.case"))
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(bytes(data))
    store = cache(tmp_path)
    image, _ = store.get(key(1), sample).whole()
    assert torch.equal(image, sample().image.half().float())
    assert store.counts.damaged == 1
    assert store.counts.built == 1


@pytest.mark.parametrize("length", [0, 5, 30, 200, 5000])
def test_a_file_that_was_cut_short_is_made_again(tmp_path, length):
    cache(tmp_path).get(key(1), sample)
    path = next(tmp_path.glob("*.case"))
    path.write_bytes(path.read_bytes()[:length])
    store = cache(tmp_path)
    store.get(key(1), sample)
    assert (store.counts.damaged, store.counts.built) == (1, 1)
    assert read_case_file(path, mapped=False, verify=True).shape == (16, 16, 16)


def test_the_disk_is_bounded_and_the_least_recently_used_goes_first(tmp_path):
    store = cache(tmp_path, disk_mb=1)
    size = 16**3 * 3
    for number in range(40):
        store.get(key(number), lambda n=number: sample(n))
        store.get(key(0), lambda: sample(0))  # used all the time
    files = list(tmp_path.glob("*.case"))
    assert sum(path.stat().st_size for path in files) <= 1 << 20
    for number in range(40, 120):
        store.get(key(number), lambda n=number: sample(n))
        store.get(key(0), lambda: sample(0))
        assert (
            sum(path.stat().st_size for path in tmp_path.glob("*.case"))
            <= (1 << 20) + (1 << 20) // 64 + 2 * size
        )
    assert store.counts.evicted > 0
    names = {path.stem for path in tmp_path.glob("*.case")}
    assert key(0) in names
    assert key(119) in names
    assert key(1) not in names


def test_memory_is_bounded_and_the_least_recently_used_goes_first(tmp_path):
    store = cache(tmp_path, memory_mb=1)
    for number in range(120):
        store.get(key(number), lambda n=number: sample(n))
        assert store.held_bytes <= 1 << 20
    for path in tmp_path.glob("*.case"):
        path.unlink()
    store.get(key(119), forbidden)
    with pytest.raises(AssertionError):
        store.get(key(0), forbidden)


def test_cases_that_may_not_lie_on_disk_stay_in_memory_only(tmp_path):
    store = cache(None, memory_mb=8)
    store.get(key(1), sample)
    store.get(key(1), forbidden)
    assert not list(tmp_path.iterdir())


def test_below_a_sealed_folder_cases_are_sealed_and_come_back(tmp_path):
    made = sample(5, (64, 64, 64))
    with mounted(tmp_path, b"k" * 32):
        cache(tmp_path / "cache").get(key(1), lambda: made)
        path = tmp_path / "cache" / f"{key(1)}.case"
        assert is_sealed(path)
        plain = made.image.half().numpy().tobytes()
        assert plain[5000:5100] not in path.read_bytes()
        image, label = cache(tmp_path / "cache").get(key(1), forbidden).whole()
        assert torch.equal(image, made.image.half().float())
        assert torch.equal(label, made.target)
        data = bytearray(path.read_bytes())
        data[70_000] ^= 1
        path.write_bytes(bytes(data))
        store = cache(tmp_path / "cache")
        assert torch.equal(store.get(key(1), lambda: made).whole()[0], image)
        assert store.counts.damaged == 1
        sent = CaseCache.__new__(CaseCache)
        sent.__setstate__(store.__getstate__())
    assert sent.folder is None  # another process has no key and must not write in the clear


def test_a_full_disk_does_not_stop_the_training(tmp_path, monkeypatch):
    store = cache(tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.compute.training.data.cache.write_case", full)
    image, _ = store.get(key(1), sample).whole()
    assert image.shape == (1, 16, 16, 16)
    assert store.counts.not_stored == 1
    assert not list(tmp_path.iterdir())


def test_a_deleted_file_stays_readable_where_it_is_mapped(tmp_path):
    found = cache(tmp_path).get(key(1), lambda: sample(1, (96, 128, 128)))
    before = found.crop((0, 0, 0), (8, 8, 8))[0]
    next(tmp_path.glob("*.case")).unlink()
    assert torch.equal(found.crop((0, 0, 0), (8, 8, 8))[0], before)


def _fill(folder: str, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    store = CaseCache(Path(folder), memory_mb=0, disk_mb=1)
    for number in range(60):
        image, label = store.get(key(number), lambda n=number: sample(n)).whole()
        assert torch.equal(image, sample(number).image.half().float())
        assert torch.equal(label, sample(number).target)


def test_processes_that_fill_and_evict_together_always_read_the_right_case(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    workers = [context.Process(target=_fill, args=(str(tmp_path), start)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert not list(tmp_path.glob("*.part"))


def test_the_key_changes_with_all_that_the_voxels_depend_on(tmp_path):
    case = write_volume(tmp_path, "a")
    recipe = volume_recipe()
    before = case_key(case, recipe)
    assert case_key(case, volume_recipe(training={"epochs": 3}, seed=9)) == before
    assert case_key(case, volume_recipe(preprocessing={"spacing_ijk_mm": [2.0, 2.0, 2.5]})) != before
    assert (
        case_key(case, volume_recipe(data={"source": {"name": "image_mask_files", "values": {1: 3}}}))
        != before
    )
    assert case_key(replace(case, mask=case.images["image"][0]), recipe) != before
    status = case.mask.stat()
    data = bytearray(case.mask.read_bytes())
    data[-20] ^= 1
    case.mask.write_bytes(bytes(data))
    os.utime(case.mask, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert case_key(case, recipe) != before


def test_windows_are_centred_on_each_label_equally_often():
    case = compact(sample(4, (24, 40, 40)), 0)
    size, share = (9, 9, 9), 0.5
    rng = np.random.default_rng(1)
    starts = [s for _ in range(400) for s in draw_starts(case, size, 4, share, rng)]
    assert all(0 <= a <= n - w for s in starts for a, n, w in zip(s, case.shape, size, strict=True))
    only = [s for _ in range(400) for s in draw_starts(case, size, 2, 0.999, rng)]
    centers = [case.label[tuple(a + 4 for a in s)] for s in only]
    ball = sum(value == 1 for value in centers)
    assert 320 < ball < 480  # of 800; a slab's centre may be moved inwards, a ball's never here


def test_the_share_of_windows_on_foreground_is_kept_within_each_case():
    label = torch.zeros(1, 9, 9, dtype=torch.uint8)
    label[0, 4, 4] = 1
    case = compact(Sample(torch.zeros(1, 1, 9, 9), label), 0)
    rng = np.random.default_rng(0)
    counts = [
        sum(start == (0, 4, 4) for start in draw_starts(case, (1, 1, 1), 10, 0.3, rng)) for _ in range(50)
    ]
    assert min(counts) >= 3
    assert max(counts) <= 5  # a random window may hit the voxel by chance


def test_a_case_smaller_than_the_window_lies_in_the_middle():
    case = compact(sample(1, (6, 20, 11)), 0)
    start = draw_starts(case, (8, 8, 16), 1, 0.0, np.random.default_rng(0))[0]
    image, label = cut(case, start, (8, 8, 16), pad_value=-5.0)
    assert image.shape == (1, 8, 8, 16)
    assert label.shape == (8, 8, 16)
    inside = image[0, 1:7, :, 2:13]
    assert float(inside.min()) > -5
    assert int((image == -5).sum()) == image.numel() - inside.numel()
    assert torch.equal(inside, torch.from_numpy(case.image[0, :, start[1] : start[1] + 8].astype(np.float32)))
    assert Sampling(patch_kji=(8, 8, 16)).per_case == 1


def test_a_margin_is_what_lies_beside_the_window_and_beyond_the_case_its_edge():
    case = compact(sample(1, (6, 20, 30)), 0)
    start, size, margin = (-1, 0, 9), (8, 8, 8), (2, 3, 4)
    image, label = cut(case, start, size, -5.0, margin)
    assert image.shape == (1, 12, 14, 16)
    window, window_label = cut(case, start, size, -5.0)
    assert torch.equal(image[:, 2:-2, 3:-3, 4:-4], window)
    assert torch.equal(label[2:-2, 3:-3, 4:-4], window_label)
    beside = torch.from_numpy(case.image.astype(np.float32))[0, :, 0:11, 5:21]
    assert torch.equal(image[0, 3:9, 3:], beside)
    assert torch.equal(image[0, 3:9, 0], beside[:, 0])  # the case ends there
    assert bool((image[0, :3] == -5).all())
    assert not label[:3].any()
