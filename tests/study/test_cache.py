from __future__ import annotations

import errno
import hashlib
import json
import logging
import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_studies import SITES, save, segmentation

from elsewhere.errors import RunError, StudyError
from elsewhere.study import hashes
from elsewhere.study.cache import Cache
from elsewhere.study.case import Case
from elsewhere.study.decode import Schema
from elsewhere.study.entry import CorruptEntry, read_entry
from elsewhere.study.store import Store
from elsewhere.study.study import Study, open_study

MASKS = Schema(("background", "vessel"), {0: 0, 255: 1})


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(segmentation(tmp_path / "data"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def one_case(folder: Path, image: np.ndarray, mask: np.ndarray | None = None) -> Case:
    save(folder / "x.png", image)
    if mask is not None:
        save(folder / "x-mask.png", mask)
    return Case("x", {"image": folder / "x.png"}, None if mask is None else folder / "x-mask.png", "A", "p", row=2)


def entries(cache: Cache) -> list[Path]:
    return sorted((cache.folder / "cases").rglob("*.case"))


def test_a_case_is_decoded_once_whatever_the_grids_and_the_caches(study: Study, cache: Cache) -> None:
    for size in (None, (12, 10), (16, 16), None):
        for case in study.cases:
            cache.resampled(case, MASKS, size=size)
    assert cache.decodes == len(study.cases)
    again = Cache(cache.folder)
    for case in study.cases:
        again.resampled(case, MASKS, size=(12, 10))
    assert again.decodes == 0
    assert again.decodes_logged() == len(study.cases)


def test_only_files_that_are_read_differently_have_another_address(tmp_path: Path, cache: Cache) -> None:
    """Addresses recorded before masks with a palette were read by their colours: finished runs keep theirs."""
    grey = one_case(tmp_path, np.arange(16, dtype=np.uint8).reshape(4, 4), np.eye(4, dtype=np.uint8) * 255)
    described: dict[str, object] = {
        "version": "1",
        "images": [],
        "label": None,
        "maps": {},
        "values": [(0, 0), (255, 1)],
    }
    described["images"] = [hashlib.sha256((tmp_path / "x.png").read_bytes()).hexdigest()]
    described["label"] = hashlib.sha256((tmp_path / "x-mask.png").read_bytes()).hexdigest()
    described["values"] = [(0, 0), (255, 1)]
    before = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    assert cache.key(grey, MASKS) == before
    Image.open(tmp_path / "x-mask.png").convert("P").save(tmp_path / "x-mask.png")
    described["label"] = hashlib.sha256((tmp_path / "x-mask.png").read_bytes()).hexdigest()
    before = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    assert Cache(tmp_path / "other").key(grey, MASKS) != before


def _load_all(folder: Path, cases: tuple[Case, ...]) -> None:
    cache = Cache(folder)
    for case in cases:
        cache.resampled(case, MASKS, size=(12, 10))


def test_processes_at_the_same_time_decode_each_case_once(study: Study, cache: Cache) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_load_all, args=(cache.folder, study.cases)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert cache.decodes_logged() == sum(SITES.values())


def test_the_entry_holds_what_the_files_hold(study: Study, cache: Cache) -> None:
    from PIL import Image

    case = study.cases[3]
    entry = cache.decoded(case, MASKS)
    pixels = np.array(Image.open(case.images["image"]))
    mask = np.array(Image.open(str(case.label)))
    assert entry.image.dtype == np.uint8
    np.testing.assert_array_equal(entry.image, pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(entry.label, mask == 255)
    np.testing.assert_allclose(entry.mean, pixels.reshape(-1, 3).mean(0), rtol=1e-6)
    np.testing.assert_allclose(entry.std, pixels.reshape(-1, 3).std(0), rtol=1e-6)
    assert not entry.image.flags.writeable


def test_nothing_to_resample_makes_no_second_entry(study: Study, cache: Cache) -> None:
    key, entry = cache.resampled(study.cases[0], MASKS, size=(24, 20))
    assert key == cache.key(study.cases[0], MASKS)
    assert entry is cache.decoded(study.cases[0], MASKS)
    assert len(entries(cache)) == 1


def test_keys_are_of_content_not_of_place(tmp_path: Path, cache: Cache) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(6, 8)
    one = one_case(tmp_path / "one", image, np.zeros((6, 8), np.uint8))
    other = one_case(tmp_path / "other", image, np.zeros((6, 8), np.uint8))
    assert cache.key(one, MASKS) == cache.key(other, MASKS)
    assert cache.key(one, Schema(("background", "x"), {0: 0, 1: 1})) != cache.key(one, MASKS)
    before = cache.key(one, MASKS)
    save(tmp_path / "one" / "x.png", image[::-1])  # the same size in bytes or nearly, an instant later
    assert cache.key(one, MASKS) != before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "garbage"])
def test_a_corrupt_entry_is_made_again(
    study: Study, cache: Cache, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = study.cases[0]
    good = cache.decoded(case, MASKS).image.copy()
    [path] = entries(cache)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-70] ^= 0xFF
    changed = {"truncated": data[:-100], "flipped": data, "empty": b"", "garbage": os.urandom(500)}[damage]
    path.unlink()
    path.write_bytes(changed)
    with pytest.raises(CorruptEntry):
        read_entry(path)
    again = Cache(cache.folder)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(again.decoded(case, MASKS).image, good)
    assert again.decodes == 1
    assert "made again" in caplog.text
    read_entry(path)


def test_an_undeclared_value_is_one_sentence(tmp_path: Path, cache: Cache) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[2, 3:5] = 7
    case = one_case(tmp_path, np.zeros((6, 8), np.uint8), mask)
    with pytest.raises(StudyError, match=r"manifest row 2: label .*x-mask\.png' has the value 7 \(2 times\)") as error:
        cache.decoded(case, MASKS)
    assert "background = 0, vessel = 255" in str(error.value)
    assert entries(cache) == []


def test_a_missing_file_names_its_row(tmp_path: Path, cache: Cache) -> None:
    case = Case("x", {"image": tmp_path / "gone.png"}, None, "A", "p", row=5)
    with pytest.raises(StudyError, match=r"manifest row 5: there is no file '.*gone\.png'"):
        cache.decoded(case, MASKS)


def test_nan_is_refused(tmp_path: Path, cache: Cache) -> None:
    import tifffile

    array = np.ones((8, 9), np.float32)
    array[2, 2:4] = np.nan
    tifffile.imwrite(tmp_path / "x.tif", array)
    case = Case("x", {"image": tmp_path / "x.tif"}, None, "A", "p", row=3)
    with pytest.raises(StudyError, match=r"row 3: image .*x\.tif' has 2 NaN or Inf values"):
        cache.decoded(case, MASKS)


def test_the_limit_holds_and_the_longest_unused_go_first(study: Study, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=8 * 2700)  # an entry is 24 * 20 * 4 bytes and its header
    kept = cache.decoded(study.cases[0], MASKS)
    kept_pixels = kept.image.copy()
    for i, case in enumerate(study.cases):
        cache.decoded(case, MASKS)
        for path in entries(cache):  # the clock of a file system is coarse
            if path.stem == cache.key(case, MASKS):
                os.utime(path, (1e9 + i, 1e9 + i))
    assert sum(path.stat().st_size for path in entries(cache)) <= cache.limit_bytes
    names = {path.stem for path in entries(cache)}
    assert cache.key(study.cases[-1], MASKS) in names
    assert cache.key(study.cases[1], MASKS) not in names
    np.testing.assert_array_equal(kept.image, kept_pixels)  # evicted long ago; what is mapped stays readable


def test_a_store_reads_again_what_was_evicted(study: Study, tmp_path: Path) -> None:
    store = Store(Cache(tmp_path / "cache", limit_bytes=3 * 2600), MASKS, study.cases)
    first = {i: store.load(i).image.copy() for i in store.case_ids}
    for case_id in store.case_ids:
        np.testing.assert_array_equal(store.load(case_id).image, first[case_id])


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cache folder .*file/cache: cannot be written .*ELSEWHERE_CACHE"):
        Cache(tmp_path / "file" / "cache")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    study: Study, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match=r"the disk is full; free some space"):
            cache.decoded(study.cases[0], MASKS)
    assert [p for p in (cache.folder / "cases").rglob("*") if p.is_file()] == []
    cache.decoded(study.cases[0], MASKS)


def test_nothing_is_written_beside_the_data(study: Study, cache: Cache) -> None:
    def listing() -> list[tuple[str, int]]:
        return sorted((str(p), p.stat().st_mtime_ns) for p in study.root.rglob("*"))

    before = listing()
    for case in study.cases:
        case.images["image"].chmod(0o444)
        cache.resampled(case, MASKS, size=(12, 10))
    assert listing() == before


def test_a_lock_file_left_behind_blocks_nobody(study: Study, cache: Cache) -> None:
    key = cache.key(study.cases[0], MASKS)
    (cache.folder / "locks" / f"{key[:3]}.lock").write_text("4242")
    assert cache.decoded(study.cases[0], MASKS).image.shape == (3, 24, 20)


def test_half_written_files_of_killed_processes_are_removed(study: Study, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=10)
    cache.decoded(study.cases[0], MASKS)
    part = entries(cache)[0].parent / ".abc.case.123.part"
    part.write_bytes(b"half")
    os.utime(part, (time.time() - 7200,) * 2)
    cache.decoded(study.cases[1], MASKS)
    assert not part.exists()


def test_settled_files_are_hashed_once_for_all_processes(
    study: Study, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study.cases[0].images["image"]
    os.utime(path, (1e9, 1e9))
    real, hashed = hashes._file_hash, []
    monkeypatch.setattr(hashes, "_file_hash", lambda p: hashed.append(p) or real(p))
    index = cache.folder / "hashes.tsv"
    first = hashes.FileHashes(index).of(path)
    with index.open("a") as file:
        file.write("torn li")
    assert hashes.FileHashes(index).of(path) == first
    assert hashed == [path]
    path.write_bytes(path.read_bytes() + b"x")
    assert hashes.FileHashes(index).of(path) != first


def test_a_folder_is_hashed_by_names_and_bytes(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    (series / "2.dcm").write_bytes(b"two")
    one = hashes.FileHashes(tmp_path / "h.tsv").of(series)
    assert hashes.FileHashes(tmp_path / "h.tsv").of(tmp_path / "series#1.2.3") == f"{one}#1.2.3"
    (series / "2.dcm").write_bytes(b"TWO")
    assert hashes.FileHashes(tmp_path / "h.tsv").of(series) != one


def test_a_pickled_cache_names_no_case(study: Study, cache: Cache) -> None:
    cache.decoded(study.cases[0], MASKS)
    data = pickle.dumps(cache)
    assert b"north" not in data
    assert pickle.loads(data).folder == cache.folder


def test_grey_saved_as_rgb_has_one_channel_and_fits_a_study_of_rgb(tmp_path: Path, cache: Cache) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    case = one_case(tmp_path, np.stack([grey] * 3, axis=-1))
    assert Store(cache, MASKS, [case]).load("x").image.shape == (1, 6, 8)
    fitted = Store(cache, MASKS, [case], n_channels=3).load("x")
    np.testing.assert_array_equal(fitted.image, np.stack([grey] * 3))
    assert len(fitted.mean) == len(fitted.std) == 3
    with pytest.raises(StudyError, match=r"row 2: image .*x\.png' has 1 channels; .* have 4"):
        Store(cache, MASKS, [case], n_channels=4).load("x")


def test_statistics_leave_a_cut_out_background_out(tmp_path: Path, cache: Cache) -> None:
    image = np.zeros((10, 10), np.uint8)
    image[:, :5] = np.arange(50).reshape(10, 5) + 100
    entry = cache.decoded(one_case(tmp_path, image), MASKS)
    assert entry.mean == pytest.approx((124.5,))
    constant = cache.decoded(one_case(tmp_path / "c", np.full((10, 10), 9, np.uint8)), MASKS)
    assert (constant.mean, constant.std) == ((9.0,), (0.0,))
    empty = cache.decoded(one_case(tmp_path / "e", np.zeros((10, 10), np.uint8)), MASKS)
    assert (empty.mean, empty.std) == ((0.0,), (0.0,))


def test_threads_share_what_is_open(tmp_path: Path) -> None:
    """The trainer reads batches in a thread beside the validation; the bound makes both throw entries out."""
    from concurrent.futures import ThreadPoolExecutor
    from types import SimpleNamespace

    cache = Cache(tmp_path, limit_bytes=20)
    entries = {f"{i:064x}": SimpleNamespace(nbytes=4) for i in range(8)}

    def use(turn: int) -> bool:
        key = f"{turn % 8:064x}"
        found = cache._lookup(key) or cache._remember(key, entries[key])  # type: ignore[arg-type]
        return found is entries[key]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(20_000)))
    assert cache._open_bytes == 4 * len(cache._open)
