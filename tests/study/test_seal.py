from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from small_studies import classification, opened, save, segmentation, volumes, write_manifest
from torch import nn

from elsewhere.errors import RunError, SealError, StudyError
from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold
from elsewhere.study.seal import ROLES, Development, HeldOut, model_sha256, seal
from elsewhere.study.study import Study

NORTH = Fold(("north",))


def frozen(channels: int = 3) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 1))
    return net.eval().requires_grad_(False)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return opened(segmentation(tmp_path / "data"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def sealed(study: Study, cache: Cache) -> tuple[Development, HeldOut]:
    return seal(study, NORTH, 0, cache)


def everything(development: Development) -> bytes:
    """All bytes that training can get."""
    out = [repr((development.split, development.preprocessing, development.fingerprint, development.sites)).encode()]
    for case_id in development.case_ids:
        stored = development.load(case_id)
        label = stored.label if isinstance(stored.label, int) else np.asarray(stored.label).tobytes()
        out += [case_id.encode(), stored.image.tobytes(), repr((label, stored.mean, stored.std)).encode()]
    return b"".join(out)


# --- what development depends on


@pytest.mark.parametrize("make", [segmentation, classification, volumes])
def test_held_out_pixels_change_nothing_in_development(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    study = opened(make(tmp_path / "data"))
    before, _ = seal(study, NORTH, 3, Cache(tmp_path / "one"))
    bytes_before, hash_before = everything(before), before.sha256
    rng = np.random.default_rng(5)
    for case in study.of_site("north"):
        path = case.images["image"]
        if path.suffix == ".png":
            save(path, rng.integers(0, 255, (99, 123), dtype=np.uint8))
        else:
            path.write_bytes(b"not an image at all")
        if isinstance(case.label, Path):
            case.label.write_bytes(b"garbage")
    for folder in ("one", "fresh"):  # with the old cache, and without
        after, _ = seal(study, NORTH, 3, Cache(tmp_path / folder))
        assert everything(after) == bytes_before
        assert after.sha256 == hash_before


def test_a_study_without_the_held_out_images_seals_the_same(study: Study, cache: Cache, tmp_path: Path) -> None:
    before, _ = seal(study, NORTH, 0, cache)
    for case in study.of_site("north"):
        case.images["image"].unlink()
    after, held_out = seal(study, NORTH, 0, Cache(tmp_path / "fresh"))
    assert after.sha256 == before.sha256
    with (
        pytest.raises(StudyError, match=r"manifest row 2: there is no file '.*north/0\.png'"),
        held_out.open(frozen(), reason="evaluate", log=tmp_path / "log") as reader,
    ):
        next(iter(reader))


def test_the_hash_of_development_sees_its_own_pixels_and_its_split(
    study: Study, cache: Cache, sealed: tuple[Development, HeldOut]
) -> None:
    assert seal(study, NORTH, 0, cache)[0].sha256 == sealed[0].sha256
    assert seal(study, NORTH, 1, cache)[0].sha256 != sealed[0].sha256
    assert seal(study, NORTH, 0, cache, size=16)[0].sha256 != sealed[0].sha256
    save(sealed[0].role("test")[0].images["image"], np.zeros((24, 20, 3), np.uint8))
    assert seal(study, NORTH, 0, cache)[0].sha256 != sealed[0].sha256


def test_only_training_cases_decide_the_preprocessing(study: Study, cache: Cache, tmp_path: Path) -> None:
    before, _ = seal(study, NORTH, 0, cache)
    for role in ("validation", "calibration", "test"):
        for case in before.role(role):
            save(case.images["image"], np.full((24, 20, 3), 255, np.uint8))
    after, _ = seal(study, NORTH, 0, Cache(tmp_path / "fresh"))
    assert (after.fingerprint, after.preprocessing) == (before.fingerprint, before.preprocessing)
    save(before.role("train")[0].images["image"], np.full((24, 20, 3), 255, np.uint8))
    assert seal(study, NORTH, 0, cache)[0].fingerprint != before.fingerprint


# --- what development holds


def test_development_pickles_without_a_trace_of_the_held_out_cases(
    study: Study, sealed: tuple[Development, HeldOut], cache: Cache, tmp_path: Path
) -> None:
    development, held_out = sealed
    with held_out.open(frozen(), reason="evaluate", log=tmp_path / "log") as reader:
        list(reader)  # now the shared cache has them open
    everything(development)
    data = pickle.dumps(development)
    assert b"south" in data
    for case in study.of_site("north"):
        for text in (case.id, case.patient, str(case.images["image"]), str(case.label)):
            assert text.encode() not in data
        assert cache.key(case, development._store.schema).encode() not in data
    assert b"north" not in data.replace(str(study.root).encode(), b"")
    again = pickle.loads(data)
    assert everything(again) == everything(development)
    with pytest.raises(SealError):
        again.load(held_out.case_ids[0])


def test_held_out_cases_cannot_be_loaded_even_when_cached(sealed: tuple[Development, HeldOut], tmp_path: Path) -> None:
    development, held_out = sealed
    with held_out.open(frozen(), reason="evaluate", log=tmp_path / "log") as reader:
        assert len([reader.load(i) for i in reader.case_ids]) == held_out.n_cases == 8
    for case_id in held_out.case_ids:
        for read in (development.load, development.original_label, development.case):
            with pytest.raises(SealError, match=f"case '{case_id}' is not in the development of this fold"):
                read(case_id)


def test_roles_are_disjoint_by_patient(study: Study, cache: Cache) -> None:
    for seed in range(3):
        for site in study.sites:
            development, held_out = seal(study, Fold((site,)), seed, cache)
            patients = [{case.patient for case in development.role(role)} for role in ROLES]
            patients.append({study.by_id[i].patient for i in held_out.case_ids})
            assert all(patients)
            assert sum(len(p) for p in patients) == len(set.union(*patients)) == 23
            assert {case.site for role in ROLES for case in development.role(role)} == set(study.sites) - {site}


def test_the_split_does_not_depend_on_what_is_held_out(tmp_path: Path) -> None:
    one = opened(segmentation(tmp_path / "one"))
    other = opened(segmentation(tmp_path / "other", {"north": 3, "south": 8, "west": 7}))
    a, _ = seal(one, NORTH, 0, Cache(tmp_path / "c"))
    b, _ = seal(other, NORTH, 0, Cache(tmp_path / "c"))
    assert a.split == b.split


def test_a_patient_of_both_sides_is_left_out_of_development(tmp_path: Path, cache: Cache) -> None:
    folder = segmentation(tmp_path / "data", extra=["south/0.png,south/0-mask.png,south,north-p0"])
    save(folder / "south/twin.png", np.full((24, 20, 3), 99, np.uint8))
    text = (folder / "manifest.csv").read_text().replace("south/0.png,south/0-mask.png,south,north-p0", "")
    (folder / "manifest.csv").write_text(text.strip() + "\nsouth/twin.png,south/0-mask.png,south,north-p0\n")
    development, held_out = seal(opened(folder), NORTH, 0, cache)
    assert development.split.left_out == ("south/twin",)
    assert "south/twin" not in development.case_ids
    assert b"twin.png" not in pickle.dumps(development)
    assert held_out.n_patients == 8
    with pytest.raises(SealError):
        development.load("south/twin")


def test_a_split_that_leaks_is_refused(study: Study, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    import elsewhere.study.seal as module

    monkeypatch.setattr(module, "held_out_cases", lambda *_: (study.of_site("south")[0].id,))
    with pytest.raises(SealError, match="puts a held-out case or patient into development: south/0"):
        seal(study, NORTH, 0, cache)


def test_a_reference_fold_is_sealed_within_the_site(study: Study, cache: Cache) -> None:
    development, held_out = seal(study, Fold(("north",), (0, 4)), 0, cache)
    inside = {case.patient for role in ROLES for case in development.role(role)}
    assert development.sites == ("north",)
    assert inside.isdisjoint({study.by_id[i].patient for i in held_out.case_ids})
    with pytest.raises(SealError):
        development.load(held_out.case_ids[0])


def test_few_shot_sees_that_many_training_patients_and_no_others(study: Study, cache: Cache) -> None:
    full, _ = seal(study, NORTH, 0, cache)
    few, _ = seal(study, NORTH, 0, cache, patients=2)
    assert set(few.split.train) < set(full.split.train)
    assert few.split.validation == full.split.validation
    assert few.fingerprint.n_cases == len(few.split.train) == 2
    assert few.sites == ("south", "west")
    one, _ = seal(study, NORTH, 0, cache, patients=1)
    assert len(one.sites) == 1
    assert set(one.site_index) == {"south", "west"}
    with pytest.raises(SealError):
        few.load(next(i for i in full.split.train if i not in few.split.train))


def test_sites_are_numbered_from_those_that_train(study: Study, cache: Cache) -> None:
    development, _ = seal(study, NORTH, 0, cache)
    assert development.sites == ("south", "west")
    assert development.site_index == {"south": 0, "west": 1}
    assert (development.channels, development.n_channels) == (("red", "green", "blue"), 3)


def test_sealing_again_decodes_nothing(study: Study, cache: Cache) -> None:
    development, _ = seal(study, NORTH, 0, cache)
    assert cache.decodes == len(development.split.train)
    everything(development)
    decoded = cache.decodes_logged()
    again = Cache(cache.folder)
    everything(seal(study, NORTH, 0, again)[0])
    assert again.decodes == 0
    assert again.decodes_logged() == decoded


# --- the door


@pytest.mark.parametrize(
    ("thaw", "message"),
    [
        (lambda m: m.train(), r"the model \(Sequential\) is in training mode"),
        (lambda m: m[1].train(), r"1 \(BatchNorm2d\) is in training mode"),
        (lambda m: m[3].bias.requires_grad_(True), r"parameter '3\.bias' requires a gradient"),
    ],
)
def test_a_model_that_is_not_frozen_opens_nothing(
    sealed: tuple[Development, HeldOut], tmp_path: Path, thaw: Callable[[nn.Module], None], message: str
) -> None:
    model = frozen()
    thaw(model)
    with pytest.raises(SealError, match=message), sealed[1].open(model, reason="x", log=tmp_path / "log"):
        raise AssertionError("it opened")
    assert not (tmp_path / "log").exists()


def _update_batch_norm(model: nn.Module, image: torch.Tensor) -> None:
    model.train()
    model(image)
    model.eval()


def _adapt_and_restore(model: nn.Module, image: torch.Tensor) -> None:
    kept = model[0].weight.clone()
    model[0].weight.add_(1)
    model(image)
    model[0].weight.copy_(kept)


@pytest.mark.parametrize(
    "change",
    [
        _update_batch_norm,
        _adapt_and_restore,
        lambda model, image: model[0].weight.mul_(1.0001),
        lambda model, image: model[1].running_var.add_(1e-3),
        lambda model, image: model.register_buffer("seen", image.mean(), persistent=False),
    ],
)
def test_a_model_that_changes_while_it_is_evaluated_is_an_error(
    sealed: tuple[Development, HeldOut], tmp_path: Path, change: Callable[[nn.Module, torch.Tensor], None]
) -> None:
    model = frozen()
    with (  # noqa: PT012
        pytest.raises(SealError, match="changed while it was evaluated on north"),
        sealed[1].open(model, reason="evaluate", log=tmp_path / "log") as reader,
    ):
        for stored in reader:
            change(model, sealed[0].preprocessing.normalise(torch.tensor(stored.image))[None])


def test_thawing_the_model_closes_the_door_at_once(sealed: tuple[Development, HeldOut], tmp_path: Path) -> None:
    model = frozen()
    with (  # noqa: PT012
        pytest.raises(SealError, match="training mode"),
        sealed[1].open(model, reason="evaluate", log=tmp_path / "log") as reader,
    ):
        reader.load(reader.case_ids[0])
        model.train()
        reader.load(reader.case_ids[1])
        raise AssertionError("it was read")


def test_honest_evaluation_passes_and_is_written_down(sealed: tuple[Development, HeldOut], tmp_path: Path) -> None:
    development, held_out = sealed
    model, log = frozen(), tmp_path / "run" / "seal.jsonl"
    for reason in ("evaluate last", "evaluate source-val"):
        with held_out.open(model, reason=reason, log=log) as reader, torch.inference_mode():
            for stored in reader:
                model(development.preprocessing.normalise(torch.tensor(stored.image), stored)[None])
                assert stored.label is not None
                assert reader.original_label(stored.case.id).array.shape == stored.original.shape
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["evaluate last", "evaluate source-val"]
    for line in lines:
        assert (line["held_out"], line["cases"], line["model_sha256"]) == ("north", 8, model_sha256(model))
        assert line["time"].endswith("+00:00")
    with pytest.raises(SealError, match="closed"):
        reader.load(held_out.case_ids[0])


def test_the_opening_is_written_before_anything_is_read(sealed: tuple[Development, HeldOut], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (  # noqa: PT012
        pytest.raises(ZeroDivisionError),
        sealed[1].open(frozen(), reason="crash", log=log),
    ):
        assert json.loads(log.read_text())["reason"] == "crash"
        1 / 0  # noqa: B018
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match="cannot be written"),
        sealed[1].open(frozen(), reason="x", log=tmp_path / "file" / "log"),
    ):
        raise AssertionError("it opened")


def test_a_reader_does_not_leave_its_process_and_knows_no_other_case(
    sealed: tuple[Development, HeldOut], tmp_path: Path
) -> None:
    with sealed[1].open(frozen(), reason="x", log=tmp_path / "log") as reader:
        with pytest.raises(SealError, match="stays in the process"):
            pickle.dumps(reader)
        with pytest.raises(SealError, match="is not held out in this fold"):
            reader.load("south/0")


def test_unlabelled_images_come_without_anything_that_tells_the_target(tmp_path: Path, cache: Cache) -> None:
    study = opened(classification(tmp_path / "data"))
    _, held_out = seal(study, NORTH, 0, cache)
    reader = held_out.unlabelled(tmp_path / "log")
    for case_id in reader.case_ids:
        stored = reader.load(case_id)
        assert (stored.label, stored.maps, stored.case.label) == (None, {}, None)
        assert not any(b"finding" in pickle.dumps(getattr(stored.case, f.name)) for f in fields(stored.case))
        for real in held_out.case_ids:  # ids and paths are often made of the class: `finding/7.png`
            assert real not in repr(stored.case)
    mean = {i: float(reader.load(i).image.mean()) for i in reader.case_ids}
    with held_out.open(frozen(), reason="x", log=tmp_path / "other") as door:
        real = [float(door.load(i).image.mean()) for i in held_out.case_ids]
    assert sorted(mean.values()) == sorted(real), "the same images"
    assert list(mean.values()) != real, "in an order that is not the manifest's"
    with pytest.raises(SealError):
        reader.load("south/0")
    line = json.loads((tmp_path / "log").read_text())
    assert (line["model_sha256"], line["cases"]) == (None, 8)
    assert "unlabelled" in line["reason"]


def test_the_hash_of_a_model_sees_every_tensor() -> None:
    model = frozen()
    first = model_sha256(model)
    assert model_sha256(model) == first
    model.register_buffer("extra", torch.zeros(()), persistent=False)
    assert model_sha256(model) != first
    half = nn.Linear(3, 2).bfloat16()
    assert model_sha256(half) == model_sha256(half)
    assert model_sha256(nn.Identity()) != model_sha256(half)


# --- classes that only the held-out site has


def test_a_class_of_the_held_out_site_alone_is_named_apart(tmp_path: Path, cache: Cache) -> None:
    folder = segmentation(tmp_path / "data")
    mask = np.zeros((24, 20), np.uint8)
    mask[3:5, 3:5] = 128
    save(folder / "north/2-mask.png", mask)
    (folder / "study.yaml").write_text("classes: {background: 0, vessel: 255, haemorrhage: 128}\n")
    development, held_out = seal(opened(folder), NORTH, 0, cache)
    assert development.unseen_classes == ("haemorrhage",)
    seen = [name for name in development.classes if name not in development.unseen_classes]
    with held_out.open(frozen(), reason="evaluate", log=tmp_path / "log") as reader:
        assert len(reader) == 8
        assert reader.unseen_classes(seen) == {"north/2": ("haemorrhage",)}


def test_a_diagnosis_of_the_held_out_site_alone_is_named_apart(tmp_path: Path, cache: Cache) -> None:
    folder = classification(tmp_path / "data")
    (folder / "manifest.csv").write_text((folder / "manifest.csv").read_text().replace("abnormal,north", "rare,north"))
    development, held_out = seal(opened(folder), NORTH, 0, cache)
    assert development.unseen_classes == ("rare",)
    with held_out.open(frozen(1), reason="evaluate", log=tmp_path / "log") as reader:
        found = reader.unseen_classes([name for name in development.classes if name != "rare"])
    assert found == {f"north/{i}": ("rare",) for i in (1, 3, 5, 7)}


def test_a_site_of_one_patient_and_a_constant_image_seal(tmp_path: Path, cache: Cache) -> None:
    folder = segmentation(tmp_path / "data", {"north": 1, "south": 6, "west": 1})
    save(folder / "south/0.png", np.full((24, 20, 3), 7, np.uint8))
    development, held_out = seal(opened(folder), NORTH, 0, cache)
    assert (held_out.n_cases, held_out.n_patients) == (1, 1)
    assert any("west" in note for note in development.split.notes)
    for case_id in development.case_ids:
        stored = development.load(case_id)
        assert torch.isfinite(development.preprocessing.normalise(torch.tensor(stored.image), stored)).all()


def test_a_corrupt_training_image_is_one_sentence(study: Study, cache: Cache) -> None:
    development, _ = seal(study, NORTH, 0, cache)
    path = development.role("train")[2].images["image"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StudyError, match=str(path.name)):
        seal(study, NORTH, 0, cache)


def test_missing_covariates_stay_missing(tmp_path: Path, cache: Cache) -> None:
    folder = classification(tmp_path / "data")
    rows = [line.split(",") for line in (folder / "manifest.csv").read_text().split()]
    write_manifest(folder, rows[0], [[*row[:-1], ""] for row in rows[1:]])
    development, _ = seal(opened(folder), NORTH, 0, cache)
    assert {case.covariates["finding"] for case in development.role("train")} == {None}
