"""`elsewhere export`: a model for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from elsewhere.errors import SettingsError


class Format(StrEnum):
    """What a model can be exported to."""

    onnx = "onnx"
    torchscript = "torchscript"
    monai_bundle = "monai-bundle"


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="a model's folder")],
    to: Annotated[Format, typer.Option(help="the format")],
    out: Annotated[Path, typer.Option(metavar="PATH", help="FILE.onnx, FILE.ts, or a new folder for a bundle")],
    trust: Annotated[bool, typer.Option("--trust", help="run a network that the model names by import path")] = False,
) -> None:
    """Export a model to ONNX, TorchScript or a MONAI bundle, after running both and comparing."""
    if model.resolve() in out.resolve().parents:
        raise SettingsError(f"--out {out}: lies in the model's folder, which holds nothing else; choose another place")
    from elsewhere.deploy.export import export_model, open_model
    from elsewhere.deploy.export_check import TOLERANCE

    done = export_model(open_model(model, trust=trust), to.value, out, name=model.resolve().name)
    shapes = ", ".join("x".join(str(n) for n in shape) for shape in done.inputs)
    typer.echo(
        f"wrote {done.path}: on {len(done.inputs)} inputs ({shapes}) its logits differ from the model's by "
        f"{done.difference:.1g} of the largest, at most {TOLERANCE:g} was allowed"
    )
