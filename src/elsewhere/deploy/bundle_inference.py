"""`configs/inference.json` of a MONAI bundle: our preprocessing and decoding in MONAI's transforms and expressions.

An expression (`$...`) is Python that MONAI evaluates; `@name` is another entry of the config. MONAI reads, turns to RAS
and back, and slides the window; grid and intensities are expressions of torch, because MONAI's own `Spacing` and
`NormalizeIntensity` follow other rules than `study.resample` and `study.preprocessing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from elsewhere.deploy.labelling import Labelling
from elsewhere.deploy.outputs import mask_values
from elsewhere.study.resample import SAME_SPACING
from elsewhere.training.model_io import Deployed

VOLUMES, PHOTOGRAPHS = [".nii.gz", ".nii"], [".png", ".jpg", ".jpeg", ".bmp"]

_SMOOTH = "mode='bilinear', align_corners=False, antialias=True"
"""Of torch's `interpolate`: a triangle as wide as the larger step, as `study.resample.resize`."""

RESIZED = {
    2: f"$lambda x, s: torch.nn.functional.interpolate(x[None], size=tuple(s), {_SMOOTH})[0]",
    # Antialias is for two axes: first the first two, then the last.
    3: "$lambda x, s: (lambda a: torch.nn.functional.interpolate(a, size=(s[1], s[2]), "
    f"{_SMOOTH}))(torch.nn.functional.interpolate(x.permute(0, 3, 1, 2), size=(s[0], s[1]), "
    f"{_SMOOTH}).permute(0, 2, 3, 1))",
}

EIGHT_BITS = (
    "$lambda m, x, y: y.round() if str(m.get('mode', 'L'))[:1] not in 'IF' and int(m.get('datatype', 2)) == 2 "
    "and bool(((x == x.round()) & (x >= 0) & (x <= 255)).all()) else y"
)
"""Images of 8 bits stay whole numbers when they are resampled; m is what Pillow (`mode`) or NIfTI (`datatype`) says."""

MOMENT = (
    "$lambda c: (lambda v: (lambda m, s: (m, s if s > 1e-6 * abs(m) else 1.0))(float(v.mean()), "
    "float(v.std(correction=0))) if len(v) else (0.0, 1.0))"
    "((c[c != 0] if (c != 0).sum() < 0.75 * c.numel() else c.flatten()).double())"
)
"""Mean and scale of a channel as `study.entry.intensity_statistics` has them: of the voxels that are not 0 where more
than a quarter is; a constant channel keeps its scale."""


def inference(model: Deployed, described: Mapping[str, Any]) -> dict[str, Any]:
    """The config: from the images of a folder to masks, or to `predictions.csv`."""
    dims, n = model.task.dims, n_files(model.preprocessing.channels)
    # Of several files a case, the first stands for it: one that lacks another file is an error, and moves no other.
    first = " and @cut(p.name)[0].endswith('_0000')" if n > 1 else ""
    channel = "@cut(f)[0][:-4] + f'{c:04d}' + @cut(f)[1]"
    files = f"[{channel} for c in range({n})]" if n > 1 else "f"
    without_channel = ".removesuffix('_0000')" if n > 1 else ""
    packages = ["csv", "pathlib", "numpy as np", "torch", "monai"]
    packages += ["nibabel"] if is_volume(model) else ["PIL.Image as PILImage", "PIL.ImageOps as PILImageOps"]
    return {
        "imports": [f"$import {package}" for package in packages],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/input'",
        "output_dir": "$@bundle_root + '/output'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "temperature": described.get("temperature") or 1.0,
        "classes": list(model.task.classes),
        "endings": VOLUMES if is_volume(model) else PHOTOGRAPHS,
        "cut": "$lambda file: next((file[:-len(e)], file[-len(e):]) for e in @endings if file.lower().endswith(e))",
        "files": "$sorted(str(p) for p in pathlib.Path(@dataset_dir).iterdir() "
        f"if not p.name.startswith('.') and p.name.lower().endswith(tuple(@endings)){first})",
        "datalist": f"$[{{'image': {files}, 'file': f}} for f in @files]",
        "case": f"$lambda file: @cut(pathlib.Path(file).name)[0]{without_channel}",
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _reading(model)},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "resized": RESIZED[dims],
        "eight_bits": EIGHT_BITS,
        "grid": f"$lambda image: {_grid(model)}",
        "fitted": "$lambda m, x, s: x if list(x.shape[1:]) == s else @eight_bits(m, x, @resized(x, s))",
        "moment": MOMENT,
        "moments": f"$lambda x: [torch.tensor(t).reshape(-1{', 1' * dims}) for t in zip(*map(@moment, x))]",
        "normalised": f"$lambda x: {_normalised(model)}",
        "inferer": _inferer(model),
        "logits": "$lambda image: @inferer(@normalised(@fitted(image.meta, image.as_tensor().float(), @grid(image)))"
        "[None].to(@device), @network_def)[0].float().cpu()",
        "restored": _restored(model),
        "calibrated": "$lambda p: (p.clamp(min=torch.finfo(p.dtype).tiny).log() / @temperature).softmax(0)",
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(model)},
        "answer": "$lambda item: (lambda p: {**p, 'pred': @calibrated(p['pred'])})(@postprocessing({**item, 'pred': "
        "monai.data.MetaTensor(@restored(@logits(item['image']).softmax(0), item['image']))}))",
        "save": _save(model),
        "evaluator": "$torch.no_grad()(lambda: @save(map(@answer, @dataset)))",
        "run": ["$pathlib.Path(@output_dir).mkdir(parents=True, exist_ok=True)", "$@evaluator()"],
    }


def is_volume(model: Deployed) -> bool:
    """3D: files are NIfTI; else photographs."""
    return model.task.dims == 3


def overlap(model: Deployed) -> float:
    """Of the sliding window."""
    return float(model.config.get("overlap", 0.5))


def n_files(channels: tuple[str, ...]) -> int:
    """Files of a case: one for a photograph of several colours, else one a channel."""
    start = channels[0].rpartition(":")[0]
    of_one_file = channels == ("red", "green", "blue") or (
        bool(start) and channels == tuple(f"{start}:{i}" for i in range(len(channels)))
    )
    return 1 if of_one_file else len(channels)


def _reading(model: Deployed) -> list[dict[str, Any]]:
    load = {"_target_": "LoadImaged", "keys": "image", "image_only": True}
    first = {"_target_": "EnsureChannelFirstd", "keys": "image"}
    if is_volume(model):
        turn = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}
        return [{**load, "reader": "NibabelReader"}, first, turn]
    channels = model.preprocessing.channels
    colour = len(channels) == 3 and n_files(channels) == 1
    converted = "i.convert('RGB')" if colour else "i if i.mode[:1] in 'IF1' else i.convert('L')"
    upright = f"$lambda i: (lambda i: {converted})(PILImageOps.exif_transpose(i))"
    # MONAI would have columns before rows.
    return [{**load, "reader": "PILReader", "reverse_indexing": False, "converter": upright}, first]


def _grid(model: Deployed) -> str:
    """`study.resample.target_geometry` as an expression: the shape that an image is resampled to."""
    rules = model.preprocessing
    if rules.size is not None:
        return str(list(rules.size))
    if rules.spacing is None:
        return "list(image.shape[1:])"
    return (
        f"[n if abs(float(mm) / w - 1) <= {SAME_SPACING} else max(1, round(n * float(mm) / w)) "
        f"for n, mm, w in zip(image.shape[1:], image.pixdim, {list(rules.spacing)})]"
    )


def _normalised(model: Deployed) -> str:
    """`Preprocessing.normalise` of one image x (C, *spatial), as an expression of torch."""
    rules = model.preprocessing

    def column(values: Any) -> str:
        return f"torch.tensor({[float(v) for v in values]}).reshape(-1{', 1' * rules.dims})"

    if rules.intensity == "none":
        return "x"
    if rules.intensity == "image-zscore":
        return "(lambda m: (x - m[0]) / m[1])(@moments(x))"
    assert rules.mean is not None
    assert rules.std is not None
    scale = [s if s > 1e-6 * abs(m) else 1.0 for m, s in zip(rules.mean, rules.std, strict=True)]
    x = "x"
    if rules.clip is not None:
        low, high = zip(*rules.clip, strict=True)
        x = f"torch.minimum(torch.maximum({x}, {column(low)}), {column(high)})"
    return f"({x} - {column(rules.mean)}) / {column(scale)}"


def _inferer(model: Deployed) -> dict[str, Any]:
    if model.patch_size is None or model.task.kind == "classification":
        return {"_target_": "SimpleInferer"}
    window = {"roi_size": list(model.patch_size), "sw_batch_size": 1, "overlap": overlap(model), "mode": "gaussian"}
    return {"_target_": "SlidingWindowInferer", **window}


def _restored(model: Deployed) -> str:
    """Probabilities to the grid that the image was read on."""
    if model.task.kind == "classification":
        return "$lambda p, image: p"
    return "$lambda p, image: p if p.shape[1:] == image.shape[1:] else @resized(p, list(image.shape[1:]))"


def _postprocessing(model: Deployed) -> list[dict[str, Any]]:
    """And to the axes of the file."""
    if model.task.kind == "classification" or not is_volume(model):
        return []
    return [{"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"}]


def _save(model: Deployed) -> str:
    """An expression that takes the answers one by one and writes them."""
    if model.task.kind == "classification":
        row = "[@case(a['file']), *(f'{float(p):.8g}' for p in a['pred'])]"
        rows = f"[['case', *@classes], *({row} for a in answers)]"
        place = "open(pathlib.Path(@output_dir, 'predictions.csv'), 'w', newline='', encoding='utf-8')"
        return f"$lambda answers: (lambda f: (csv.writer(f).writerows({rows}), f.close()))({place})"
    values = mask_values(np.arange(len(model.task.classes)), Labelling.of(model.config, ""))
    mask = f"np.array({values.tolist()}, np.{values.dtype})[np.asarray(a['pred'].argmax(0)).astype(int)]"
    if is_volume(model):
        return (
            f"$lambda answers: [nibabel.save(nibabel.Nifti1Image({mask}, np.asarray(a['image'].meta['original_affine'])"
            "), pathlib.Path(@output_dir, @case(a['file']) + '.nii.gz')) for a in answers]"
        )
    path = "pathlib.Path(@output_dir, @case(a['file']) + '.png')"
    return f"$lambda answers: [PILImage.fromarray({mask}).save({path}) for a in answers]"
