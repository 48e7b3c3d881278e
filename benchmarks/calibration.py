"""How right are the numbers of docs/explanation/calibration.md? Prints its tables, in Markdown.

Each number is a mean or a share over simulated sites; a share p of n simulations has a standard error of
sqrt(p (1 - p) / n).

    python benchmarks/calibration.py                # 1000 simulations a row, a minute or two
    python benchmarks/calibration.py --n 200 --only ece
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy.special import softmax

from elsewhere.evidence.calibration import calibration_error, debiased_ece, folded_normal_mean, score_bins
from elsewhere.evidence.conformal import fit_label_sets
from elsewhere.evidence.operating import operating_point
from elsewhere.evidence.shares import share
from elsewhere.evidence.temperature import fit_temperature

Array = np.ndarray


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


def head(*cells: str) -> None:
    row(*cells)
    print("|" + "---|" * len(cells))


def judged(n: int, too_sure: float, generator: np.random.Generator) -> Array:
    """Sums by bin of n patients with a case each, whose labels are right less often by `too_sure` than they say."""
    confidence = 0.5 + 0.5 * generator.beta(2, 1.5, n)
    return score_bins(confidence, generator.random(n) < confidence - too_sure)


def kumar(bins: Array) -> float:
    """ECE with the bias of each bin taken at its own miscalibration, 2 |d| - folded(|d|), of cases as patients."""
    n, error = bins[:, 0].sum(axis=0), (bins[:, 1] - bins[:, 2]).sum(axis=0)
    squares = ((bins[:, 1] - bins[:, 2]) ** 2).sum(axis=0)
    some = n > 0
    n, d, squares = n[some], error[some] / n[some], squares[some]
    v = np.where(n > 1, np.maximum(squares - n * d**2, 0) / np.maximum(n * (n - 1), 1), d**2)
    return float(n @ (2 * np.abs(d) - folded_normal_mean(np.abs(d), np.sqrt(v))) / n.sum())


def ece(n: int) -> None:
    """Plain and debiased ECE, and how often the interval holds the truth."""
    head("patients", "true ECE", "plain", "Kumar et al.'s L1", "debiased", "interval holds it", "mean width")
    for patients in (30, 100, 300):
        for too_sure in (0.0, 0.05, 0.1):
            generator = np.random.default_rng(patients)
            found, plain, other = [], [], []
            for seed in range(n):
                bins = judged(patients, too_sure, generator)
                plain.append(calibration_error(bins).plain[0])
                other.append(kumar(bins))
                found.append(debiased_ece(bins, range(patients), n_boot=300, seed=seed))
            held = np.mean([one.lo <= too_sure <= one.hi for one in found])
            width = np.mean([one.hi - one.lo for one in found])
            means = [float(np.mean(values)) for values in (plain, other, [one.value for one in found])]
            row(patients, f"{too_sure:.2f}", *means, f"{100 * held:.1f} %", f"{width:.2f}")


def voxels_of(patients: int, too_sure: float, generator: np.random.Generator) -> Array:
    """Sums by bin of a volume a patient, voxels in eight bins; how much too sure the model is differs by patient."""
    weight, middle = generator.dirichlet(np.full(8, 0.7), patients), (np.arange(7, 15) + 0.5) / 15
    own = generator.normal(0, 0.3, (patients, 1)) * 4 * middle * (1 - middle)
    bins = np.zeros((patients, 3, 15))
    bins[:, :, 7:] = np.stack([weight, weight * middle, weight * np.clip(middle - too_sure + own, 0, 1)], axis=1)
    return bins


def voxels(n: int) -> None:
    """The same of voxels, of which those of a patient are right, or wrong, together."""
    head("patients", "true ECE", "plain", "debiased", "interval holds it", "mean width")
    for patients in (5, 10, 30, 100):
        for too_sure in (0.0, 0.05, 0.15):
            sums = voxels_of(200000, too_sure, np.random.default_rng(0)).sum(axis=0)
            truth = float(np.abs(sums[1] - sums[2]).sum() / sums[0].sum())
            generator = np.random.default_rng(patients)
            plain, found = [], []
            for seed in range(n):
                bins = voxels_of(patients, too_sure, generator)
                plain.append(calibration_error(bins).plain[0])
                found.append(debiased_ece(bins, range(patients), n_boot=300, seed=seed))
            held = np.mean([one.lo <= truth <= one.hi for one in found])
            width = np.mean([one.hi - one.lo for one in found])
            means = [float(np.mean(values)) for values in (plain, [one.value for one in found])]
            row(patients, f"{truth:.2f}", *means, f"{100 * held:.1f} %", f"{width:.2f}")


def shares(n: int) -> None:
    """How often the interval of a share (nominal 95 %) holds it."""
    head("patients", "cases each", "cases of a patient", "share 0.7", "share 0.9", "share 0.97")
    for patients, cases in ((5, 4), (10, 1), (10, 5), (30, 1), (30, 3), (100, 1)):
        for together in (False, True) if cases > 1 else (False,):
            held = []
            for p in (0.7, 0.9, 0.97):
                generator, right = np.random.default_rng(patients), 0
                for _ in range(n):
                    skill = generator.beta(2 * p, 2 * (1 - p), patients) if together else np.full(patients, p)
                    size = generator.integers(1, 2 * cases, patients) if cases > 1 else np.ones(patients, int)
                    found = share(generator.binomial(size, skill), size, range(patients)).interval()
                    right += found.lo <= p <= found.hi
                held.append(f"{100 * right / n:.1f} %")
            about = f"1 to {2 * cases - 1}" if cases > 1 else "1"
            row(patients, about, "alike" if together else "independent", *held)


def predictive(n: int) -> None:
    """How often the intervals of PPV and NPV at a prevalence of 10 % (nominal 95 %) hold them."""
    head("with the finding", "without", "sensitivity", "specificity", "PPV", "NPV")
    for with_it, without in ((10, 20), (25, 35), (50, 150)):
        for a, b in ((0.8, 0.9), (0.95, 0.97)):
            generator, held = np.random.default_rng(with_it), [0, 0]
            truth = (a * 0.1 / (a * 0.1 + (1 - b) * 0.9), b * 0.9 / (b * 0.9 + (1 - a) * 0.1))
            positive = np.arange(with_it + without) < with_it
            for seed in range(n):
                called = generator.random(len(positive)) < np.where(positive, a, 1 - b)
                found = operating_point(called.astype(float), positive, range(len(positive)), 0.5, 0.1, seed=seed)
                for i, name in enumerate(("ppv", "npv")):
                    held[i] += found[name].lo <= truth[i] <= found[name].hi
            row(with_it, without, f"{a:g}", f"{b:g}", *(f"{100 * count / n:.1f} %" for count in held))


def patients_of(n: int, skill: float, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    owner = np.repeat(np.arange(n), generator.integers(1, 5, n))
    target = generator.integers(0, 3, n)[owner]
    noise = generator.normal(size=(n, 3))[owner] + 0.5 * generator.normal(size=(len(owner), 3))
    return softmax(skill * np.eye(3)[target] + noise, axis=1), target, owner


def conformal(n: int) -> None:
    """How often the threshold of 90 % sets holds all cases of a new patient; patients have 1 to 4 cases."""
    head("calibration patients", "promised", "patients like them", "patients of a site where the model is worse")
    for patients in (9, 19, 49, 199):
        generator, like, unlike = np.random.default_rng(patients), [], []
        for _ in range(n):
            fitted = fit_label_sets(*patients_of(patients, 3.0, generator), 0.9)
            for skill, held in ((3.0, like), (1.5, unlike)):
                p, y, owner = patients_of(20, skill, generator)
                inside = 1 - p[np.arange(len(y)), y] <= fitted.threshold
                held.append(np.mean([inside[owner == i].all() for i in range(20)]))
        row(patients, "90 %", f"{100 * np.mean(like):.1f} %", f"{100 * np.mean(unlike):.1f} %")


def temperature(n: int) -> None:
    """The temperature found of a model that is too sure, T = 2, two classes, a case a patient."""
    head("calibration patients", "median T", "90 % of fits lie in", "left at 1: every label right")
    for patients in (10, 30, 100, 300):
        generator, found = np.random.default_rng(patients), []
        for _ in range(n):
            logits = generator.normal(size=(patients, 2)) * 2
            target = (generator.random(patients) > softmax(logits, 1)[:, 0]).astype(int)
            found.append(fit_temperature(2 * logits, target))
        lo, middle, hi = np.quantile(found, [0.05, 0.5, 0.95])
        row(patients, f"{middle:.2f}", f"{lo:.2f} to {hi:.2f}", f"{100 * np.mean(np.array(found) == 1):.1f} %")


TABLES: dict[str, Callable[[int], None]] = {
    "ece": ece,
    "voxels": voxels,
    "shares": shares,
    "predictive": predictive,
    "conformal": conformal,
    "temperature": temperature,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="simulations a row")
    parser.add_argument("--only", choices=TABLES)
    given = parser.parse_args()
    for name, table in TABLES.items():
        if given.only in (None, name):
            print(f"\n{table.__doc__}\n")
            table(given.n)


if __name__ == "__main__":
    main()
