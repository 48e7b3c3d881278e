"""`elsewhere predict` on 3D volumes beside MONAI's sliding_window_inference called by hand. Prints JSON.

    python benchmarks/predict.py --pairs 15 --out predict.json
    python benchmarks/predict.py --size 48 48 32 --patch 32 32 32 --pairs 1 --processes 1   # a glance

Both sides read a NIfTI file, normalise it, run the same network over the same windows (overlap, Gaussian weights, one
window at a time) and write the mask as NIfTI; their masks are compared. Ours does all that `predict` does besides:
temperature, confidence, features, input statistics, the outlier flag, volumes, the row of the table. Loading the model
is on neither side.

Time: alternating pairs in one process, which goes first alternating too; the median ratio and its bootstrap interval.
Memory: the peak of a process that does one side once, after importing and loading what both need, and the same above
what the process held just before; medians over some processes in turn, for an allocator's luck is 30 MiB.

Targets: median ratio at most 1, peak memory no higher.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from elsewhere import tasks
from elsewhere.deploy.features import input_statistics
from elsewhere.deploy.folder import write_folder
from elsewhere.deploy.inputs import find_inputs, stored_case
from elsewhere.deploy.model import Model, load
from elsewhere.deploy.outliers import DevelopmentStatistics
from elsewhere.deploy.predict import Work
from elsewhere.deploy.predictor import Predictor
from elsewhere.study.case import Geometry, Picture
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.training.model_io import build, describe, load_model, save_model, weights
from pairs import compare


def make_volume(path: Path, size: tuple[int, ...]) -> None:
    """Smooth noise in 12 bits, as MR has it; axes in RAS, so that both sides lay the same windows."""
    from scipy.ndimage import gaussian_filter

    voxels = gaussian_filter(np.random.default_rng(0).normal(size=size), 2)
    voxels = np.rint((voxels - voxels.min()) / np.ptp(voxels) * 3000).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([0.8, 0.8, 1.5, 1.0])), path)


def make_model(folder: Path, patch: tuple[int, ...]) -> Path:
    """The default network, untrained: two classes, z-scores, with a temperature and statistics of 64 cases."""
    preprocessing = Preprocessing(dims=3, channels=("image",), intensity="image-zscore", patch_size=patch)
    task = tasks.create("segmentation", 3, ("background", "lesion"))
    config = describe("erm", {}, "unet", {}, task, 2, preprocessing, None)
    config |= {"format": 2, "overlap": 0.5, "temperature": 1.3, "thresholds": {}, "conformal": {}}
    parts = save_model(folder.with_name("parts"), weights(build(config)), config, "last")
    rng = np.random.default_rng(1)
    cases = []
    for number in range(64):
        array = rng.normal(1500, 300, (1, *patch)).astype(np.float32)
        cases.append(stored_case(Picture(array, Geometry(patch, (0.8, 0.8, 1.5))), f"case {number}", preprocessing))
    seen = next(Predictor(load_model(parts)).answers(cases[:1]))
    features = seen.features + rng.normal(size=(64, len(seen.features)))
    inputs = [input_statistics(case) for case in cases]
    patients = [f"patient {n}" for n in range(64)]
    statistics = DevelopmentStatistics.fit(features[:32], inputs[:32], patients[:32])
    statistics.calibrate(features[32:], inputs[32:], patients[32:]).save(parts / "development.safetensors")
    return write_folder(folder, parts / "model.safetensors", config, parts / "development.safetensors", "# untrained\n")


class Ours:
    """What `elsewhere predict` does with one file, the model being loaded."""

    def __init__(self, folder: Path, model: Model, image: Path) -> None:
        self.work = Work(model.folder, False, "cpu", folder / "ours", probabilities=False, threads=None)
        object.__setattr__(self.work, "_model", lambda: model)
        (self.input,) = find_inputs([image], model.preprocessing, known={}).inputs
        self.mask = folder / "ours" / "masks" / "image.nii.gz"

    def __call__(self) -> None:
        (row,) = self.work([self.input])
        assert "error" not in row, row["error"]


class Theirs:
    """The same by hand, as MONAI's tutorials do it."""

    def __init__(self, folder: Path, model: Model, image: Path) -> None:
        self.network = model.deployed
        self.image = image
        self.mask = folder / "theirs.nii.gz"

    def __call__(self) -> None:
        from monai.inferers import sliding_window_inference

        file = nib.load(self.image)
        image = torch.from_numpy(np.asarray(file.dataobj, dtype=np.float32))
        image = (image - image.mean()) / image.std()
        with torch.inference_mode():
            logits = sliding_window_inference(
                image[None, None], self.network.patch_size, 1, self.network, overlap=0.5, mode="gaussian"
            )
        mask = logits.argmax(dim=1)[0].to(torch.uint8).numpy()
        nib.save(nib.Nifti1Image(mask, file.affine), self.mask)


def peak(folder: Path, side: str, threads: int) -> dict[str, float]:
    """Peak memory in MiB of a process of its own that does one side once: in all, and above what it held before."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--threads", str(threads)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def do_one_side(folder: Path, side: str) -> None:
    import monai.inferers  # noqa: F401  both sides need it

    model = load(folder / "model", device="cpu")
    work = (Ours if side == "ours" else Theirs)(folder, model, folder / "image.nii.gz")
    before = held("VmRSS")
    work()
    after = held("VmHWM")
    print(json.dumps({"peak_mib": round(after, 1), "above_mib": round(after - before, 1)}))


def held(what: str) -> float:
    """MiB that this process holds (VmRSS), or has held at most (VmHWM); Linux only.

    Not `getrusage`: its peak of a new process begins with what the process that started it held.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def measure(
    folder: Path, size: tuple[int, ...], patch: tuple[int, ...], pairs: int, processes: int, threads: int
) -> dict[str, Any]:
    make_volume(folder / "image.nii.gz", size)
    model = load(make_model(folder / "model", patch), device="cpu")
    ours, theirs = (side(folder, model, folder / "image.nii.gz") for side in (Ours, Theirs))
    found = compare(ours, theirs, pairs, warm_up=1)
    masks = [np.asarray(nib.load(side.mask).dataobj) for side in (ours, theirs)]
    different = float((masks[0] != masks[1]).mean())
    assert different < 1e-3, f"the masks differ in {different:.2%} of the voxels"
    peaks: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(processes):
        for side, found_peaks in peaks.items():
            found_peaks.append(peak(folder, side, threads))
    memory = {
        side: {what: float(np.median([one[what] for one in some])) for what in some[0]} for side, some in peaks.items()
    }
    memory_ratio = round(memory["ours"]["peak_mib"] / memory["theirs"]["peak_mib"], 4)
    shape = {"size": list(size), "patch": list(patch), "voxels_that_differ": different}
    return {
        **shape,
        **found,
        "memory": {**memory, "ratio": memory_ratio, "processes": processes},
        "target": {"ratio": 1.0, "memory": 1.0},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(176, 176, 112))
    parser.add_argument("--patch", type=int, nargs=3, default=(96, 96, 64))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--processes", type=int, default=5, help="of each side, for the memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        do_one_side(options.folder, options.side)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder), tuple(options.size), tuple(options.patch), options.pairs, options.processes, options.threads
        )
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
