from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score, roc_curve
from small_models import case, deployed
from torch import Tensor, nn

from elsewhere.acquisition import gamma, gaussian_blur, gaussian_noise, invert
from elsewhere.deploy.calibration import LEVELS, Calibrated, calibrate, evenly, foreground_levels, plain
from elsewhere.deploy.predictor import Predictor
from elsewhere.study.case import Picture, StoredCase
from elsewhere.study.held_out import model_sha256

TRAIN = [f"case-{i}" for i in range(12)]
CALIBRATION = [f"case-{i}" for i in range(12, 36)]


class Reader:
    """Loads cases by their number, two a patient among the calibration cases; counts."""

    def __init__(self, kind: str = "segmentation", shape: tuple[int, ...] = (32, 32)) -> None:
        self.kind, self.shape = kind, shape
        self.loaded: list[str] = []

    def __call__(self, case_id: str) -> tuple[StoredCase, Picture | int]:
        self.loaded.append(case_id)
        number = int(case_id.rpartition("-")[2])
        patient = f"p{number}" if number < 12 else f"p{number // 2}"
        if self.kind == "classification":
            bright = int(case(number, self.shape).image[0, :4, :4].mean() > 100)
            label = (bright + 1) % 3 if number % 4 == 0 else bright
            return case(number, self.shape, label=label, patient=patient), label
        stored = case(number, self.shape, patient=patient)
        return stored, Picture(np.asarray(stored.label), stored.original)


class Brightness(nn.Module):
    """Three logits of how bright a voxel is, times `sure`; class 2 never wins."""

    def __init__(self, sure: float) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(sure))
        self.mix = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.mix.weight.fill_(1.0)
            self.mix.bias.fill_(0.0)

    def forward(self, image: Tensor) -> Tensor:
        bright = self.mix(image)
        return self.sure * torch.cat([bright * 0, bright - 0.5, bright * 0 - 2], dim=1)


class Whole(Brightness):
    """The same of an image, from its corner."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image[..., :4, :4]).mean((2, 3))


def calibrated(sure: float, reader: Reader, **options: object) -> Calibrated:
    name, network = ("unet", Brightness(sure)) if reader.kind == "segmentation" else ("resnet18", Whole(sure))
    return calibrate(Predictor(deployed(name, network=network)), reader, TRAIN, CALIBRATION, **options)  # type: ignore[arg-type]


def everything(reader: Reader) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Patient, log probabilities (n, 3) and targets (n,) of each calibration case, at sure = 1, in plain NumPy."""
    found = []
    for name in CALIBRATION:
        stored, label = reader(name)
        z = ((stored.image - stored.mean[0]) / stored.std[0]).astype(np.float64)[0]
        logits = np.stack([z * 0, z - 0.5, z * 0 - 2], axis=-1)
        if isinstance(label, Picture):
            found.append((stored.case.patient, log_softmax(logits.reshape(-1, 3), 1), label.array.reshape(-1)))
        else:
            mean = logits[:4, :4].mean((0, 1))
            found.append((stored.case.patient, log_softmax(mean)[None], np.array([label])))
    return found


# --- temperature


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_temperature_is_that_of_an_independent_fit_and_scales_with_the_logits(kind: str) -> None:
    cases = everything(Reader(kind))

    def loss(log_t: float) -> float:
        """Mean over the two cases of each patient, over patients."""
        means = [-log_softmax(p / np.exp(log_t), 1)[np.arange(len(y)), y].mean() for _, p, y in cases]
        return float(np.mean(means))

    wanted = np.exp(minimize_scalar(loss, bounds=(-2.3, 2.3), method="bounded", options={"xatol": 1e-6}).x)
    assert 0.11 < wanted < 9.9
    found = calibrated(1.0, Reader(kind))
    assert found.temperature == pytest.approx(wanted, rel=1e-3)
    assert calibrated(0.5, Reader(kind)).temperature == pytest.approx(wanted / 2, rel=1e-3)
    assert (found.n_patients, found.n_cases) == (12, 24)


def test_of_a_large_image_few_voxels_are_kept_and_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = calibrated(1.0, Reader(shape=(96, 96))).temperature
    monkeypatch.setattr("elsewhere.deploy.calibration.VOXELS", 9216)
    assert whole == pytest.approx(calibrated(1.0, Reader(shape=(96, 96))).temperature, rel=0.05)
    monkeypatch.setattr("elsewhere.deploy.calibration.MOST_VOXELS", 24 * 100)
    assert whole == pytest.approx(calibrated(1.0, Reader(shape=(96, 96))).temperature, rel=0.2)


# --- thresholds and sets


def test_thresholds_and_sets_are_of_the_probabilities_after_temperature() -> None:
    reader = Reader("classification")
    found = calibrated(1.0, reader)
    t = found.temperature
    scaled = np.concatenate([np.exp(log_softmax(p / t, 1)) for _, p, _ in everything(reader)])
    target = np.concatenate([y for _, _, y in everything(reader)])
    for index, name in enumerate(("background", "a", "b")):
        false, true, thresholds = roc_curve(target == index, scaled[:, index], drop_intermediate=False)
        best = true - false
        chosen = found.thresholds[name]
        near = np.argmin(np.abs(thresholds - chosen))
        assert thresholds[near] == pytest.approx(chosen, abs=1e-4)
        assert best[near] == pytest.approx(best.max())
    scores = (1 - scaled[np.arange(24), target]).reshape(12, 2).max(1)  # two cases a patient
    assert found.conformal["threshold"] == pytest.approx(np.sort(scores)[11], abs=1e-4)  # ceil(13 * 0.9) = 12
    assert found.conformal["kind"] == "label sets"
    assert "12 calibration patients" in found.conformal["sentence"]
    few = calibrate(
        Predictor(deployed("resnet18", network=Whole(1.0))), reader, TRAIN, CALIBRATION[:6], conformal_level=0.9
    )
    assert few.conformal["reason"].startswith("3 calibration patients")
    assert few.conformal["sentence"].startswith("none that would say anything")


def test_thresholds_of_a_segmentation() -> None:
    reader = Reader()
    found = calibrated(3.0, reader)
    assert reader.loaded == TRAIN + CALIBRATION * 2  # the second time at the temperature
    at = 3.0 / found.temperature

    def dice(threshold: float) -> float:
        values = []
        for _, p, y in everything(reader):
            mask = 1 - np.exp(log_softmax(p * at, 1))[:, 0] >= threshold
            values.append(2 * (mask & (y > 0)).sum() / (mask.sum() + (y > 0).sum()))
        return float(np.mean(values))

    chosen = found.thresholds["foreground"]
    assert dice(chosen) == pytest.approx(max(dice(i / LEVELS) for i in range(1, LEVELS)), abs=1e-3)
    assert found.conformal["kind"] == "outer mask"
    missed: dict[str, list[float]] = {}
    for patient, p, y in everything(reader):
        outside = 1 - np.exp(log_softmax(p * at, 1))[:, 0] < found.conformal["threshold"]
        missed.setdefault(patient, []).append((outside & (y > 0)).sum() / (y > 0).sum())
    shares = np.array([np.mean(values) for values in missed.values()])  # boxes are of one size
    assert (shares <= 0.1 + 1e-9).mean() >= 0.9
    without = calibrated(3.0, Reader(), operating=False)
    assert (without.thresholds, without.conformal) == ({}, {})
    assert without.temperature == found.temperature


def test_foreground_levels_count_voxels() -> None:
    rng = np.random.default_rng(0)
    background = rng.random((20, 30)).astype(np.float32)
    background[0, :3] = [0.0, 1.0, 0.25]
    truth = rng.integers(0, 3, (20, 30))
    true, false = foreground_levels(np.stack([background, 1 - background]), truth)
    p = 1 - background.astype(np.float64)
    edges = np.arange(LEVELS + 1) / LEVELS
    for found, inside in ((true, truth > 0), (false, truth == 0)):
        assert np.abs(found - np.histogram(p[inside], edges)[0]).sum() <= 2  # an edge in another last bit
        assert found.sum() == inside.sum()


# --- what is kept, and what is not there


def test_each_calibration_case_has_its_row_and_is_looked_at_once() -> None:
    reader = Reader()
    found = calibrated(1.0, reader, look=lambda answer, label: (answer.stored.case.id, label.array.sum()))
    assert [row.case for row in found.rows] == CALIBRATION
    assert [row.looked for row in found.rows] == [(name, reader(name)[1].array.sum()) for name in CALIBRATION]
    assert [row.patient for row in found.rows] == [f"p{i // 2}" for i in range(12, 36)]
    for row in found.rows:
        assert row.foreground_true.sum() == (reader(row.case)[1].array > 0).sum()
        assert row.outlier.unlike == (row.outlier.outlier > found.statistics.threshold)
    assert found.reason == found.statistics.reason
    assert "12 calibration patients are too few" in found.reason
    assert plain(found.conformal)["level"] == 0.9


def test_without_calibration_patients_there_are_only_scores() -> None:
    found = calibrate(Predictor(deployed("unet", network=Brightness(1.0))), Reader(), TRAIN, [])
    assert (found.temperature, found.thresholds, found.conformal, found.rows) == (None, {}, {}, [])
    assert found.reason == "there are no calibration patients"
    assert found.statistics.threshold is None


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_a_model_that_diverged_is_no_error(kind: str) -> None:
    found = calibrated(float("nan"), Reader(kind))
    assert found.temperature is None
    assert found.reason == "the model gives no calibration case probabilities that are finite numbers"
    assert (found.thresholds, found.conformal) == ({}, {})
    assert len(found.rows) == 24


def test_training_cases_are_evenly_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = ["a"] * 30 + ["b"] * 60 + ["c"] * 10
    assert [evenly(sites, 20).count(site) for site in "abc"] == [6, 12, 2]
    assert evenly(sites, 100) == sites
    monkeypatch.setattr("elsewhere.deploy.calibration.MOST", 4)
    reader = Reader()
    calibrate(Predictor(deployed("unet", network=Brightness(1.0))), reader, TRAIN, [])
    assert reader.loaded == ["case-0", "case-3", "case-6", "case-9"]


def test_the_model_stays_as_it_is_and_the_result_is_the_same_again() -> None:
    model = deployed("unet", patch=16)
    before = model_sha256(model)
    one, other = (calibrate(Predictor(model), Reader(), TRAIN, CALIBRATION[:8]) for _ in range(2))
    assert model_sha256(model) == before
    assert one.temperature == other.temperature
    assert one.statistics.threshold == other.statistics.threshold
    assert [row.outlier for row in one.rows] == [row.outlier for row in other.rows]


# --- on real images


def noisy(image: Tensor) -> Tensor:
    return gaussian_noise(
        image, torch.tensor([0.15]), torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    )


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "blurred": lambda image: gaussian_blur(image, torch.tensor([3.0])),
    "noisy": noisy,
    "dark": lambda image: gamma(image, torch.tensor([3.0])),
    "inverted": invert,
}


def test_a_changed_acquisition_of_real_images_is_flagged(shared_data: Path) -> None:
    """DRIVE's photographs for development; an untrained network's features are enough to tell what is unlike them."""
    from PIL import Image

    files = sorted((shared_data / "retina-vessels" / "DRIVE" / "images").iterdir())
    if len(files) < 40:
        pytest.skip("DRIVE is not here")
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((96, 96))).transpose(2, 0, 1) for path in files]

    def stored(number: int, change: Callable[[Tensor], Tensor] | None = None) -> StoredCase:
        image = torch.from_numpy(pictures[number].astype(np.float32) / 255)[None]
        image = image if change is None else change(image).clamp(0, 1)
        values = (image[0] * 255).round().numpy()
        made = case(number, (96, 96), channels=3)
        return replace(made, image=values, mean=tuple(values.mean((1, 2))), std=tuple(values.std((1, 2))))

    def load(name: str) -> tuple[StoredCase, Picture]:
        found = stored(int(name))
        return found, Picture(np.asarray(found.label), found.original)

    predictor = Predictor(deployed("unet", channels=3, patch=96, num_res_units=0))
    ids = [str(i) for i in np.random.default_rng(0).permutation(40)]
    statistics = calibrate(predictor, load, ids[:16], ids[16:30], operating=False).statistics
    new = [int(i) for i in ids[30:]]

    def scores(change: Callable[[Tensor], Tensor] | None) -> list[tuple[float, bool]]:
        found = (statistics.score(*pair) for pair in predictor.features(stored(i, change) for i in new))
        return [(one.outlier, bool(one.unlike)) for one in found]

    usual = scores(None)
    assert sum(flag for _, flag in usual) <= 3  # of 10, at a level of 1 / 15
    for name, change in CHANGES.items():
        changed = scores(change)
        truth = [0] * len(usual) + [1] * len(changed)
        assert roc_auc_score(truth, [score for score, _ in usual + changed]) > 0.9, name
        assert sum(flag for _, flag in changed) >= 8, name
