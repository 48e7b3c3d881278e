"""Flips, affine maps, elastic deformations and crops that move image, target and maps together.

`Spatial` is the distribution; `flip`, `affine`, `elastic` and `crop` do one thing with explicit parameters. Whatever is
drawn for a sample is composed into one grid, so an image is interpolated at most once; a sample for which nothing but
flips and crops was drawn is copied, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.acquisition.geometry_grid import Fill, Mode, affine_matrix, resample, sampling_grid
from elsewhere.acquisition.mechanism import (
    Between,
    Parameters,
    draw_uniform,
    images_at_once,
    parse_probability,
    parse_range,
)
from elsewhere.errors import SettingsError


class Moved(NamedTuple):
    """What `Spatial.apply` gives back: `image`, `target` (None where none was given) and `maps`."""

    image: Tensor
    target: Tensor | None
    maps: dict[str, Tensor]


def flip(image: Tensor, axes: Sequence[int]) -> Tensor:
    """Reverse the spatial `axes` (0 is the first after the channels) of `image` (B, C, *spatial)."""
    return image.flip([2 + axis for axis in axes]) if len(axes) else image


def crop(image: Tensor, origin: Sequence[int], size: Sequence[int], fill: Fill = "zeros") -> Tensor:
    """Cut `size` voxels from `origin` of `image` (B, C, *spatial); what lies outside is padded by `fill`."""
    spatial = image.shape[2:]
    inside = [
        slice(min(max(start, 0), n), max(min(start + length, n), 0))
        for start, length, n in zip(origin, size, spatial, strict=True)
    ]
    part = image[(slice(None), slice(None), *inside)]
    if tuple(part.shape[2:]) == tuple(size):
        return part
    padding = []
    for start, length, n in reversed(list(zip(origin, size, spatial, strict=True))):
        before = min(max(-start, 0), length)
        padding += [before, length - before - max(min(start + length, n) - max(start, 0), 0)]
    if fill == "border":
        return functional.pad(part, padding, mode="replicate")
    if fill == "zeros":
        return functional.pad(part, padding)
    low = image.detach().flatten(2).amin(2).reshape(*image.shape[:2], *[1] * len(spatial))
    return functional.pad(part - low, padding) + low


def affine(
    image: Tensor,
    *,
    rotation: Tensor | None = None,
    scale: Tensor | None = None,
    shear: Tensor | None = None,
    translation: Tensor | None = None,
    spacing: Tensor | None = None,
    mode: Mode = "linear",
    fill: Fill = "zeros",
) -> Tensor:
    """Turn, scale, shear, then shift the content of `image` (B, C, *spatial) about its centre.

    Args:
        image: what is moved.
        rotation: degrees, (B, 1) in 2D, (B, 3) in 3D (about each axis; see `geometry_grid.rotation_matrix`).
        scale: (B, D), above 1 magnifies.
        shear: (B, 1) in 2D, (B, 3) in 3D.
        translation: (B, D), as a fraction of each axis' length, towards higher indices.
        spacing: (B, D) mm; where given, angles and shears are those of the body and not of the voxel lattice.
        mode: linear for images, nearest for labels.
        fill: what lies outside of the image.
    """
    spatial = tuple(image.shape[2:])
    n, dims = len(image), len(spatial)
    angles = 1 if dims == 2 else 3
    nothing = torch.zeros(n, dims, device=image.device)
    matrix = affine_matrix(
        nothing[:, :angles] if rotation is None else rotation.float().expand(n, angles),
        nothing + 1 if scale is None else scale.float().expand(n, dims),
        nothing[:, :angles] if shear is None else shear.float().expand(n, angles),
        None if spacing is None else spacing.float().expand(n, dims),
    )
    shift = nothing if translation is None else translation.float().expand(n, dims)
    grid = sampling_grid(spatial, spatial, origin=nothing, matrix=matrix, translation=shift)
    return resample(image, grid, mode, fill)


def elastic(image: Tensor, displacement: Tensor, mode: Mode = "linear", fill: Fill = "zeros") -> Tensor:
    """Bend `image` (B, C, *spatial) by a cubic B-spline free-form deformation (Rueckert et al. 1999).

    Args:
        image: what is bent.
        displacement: (B, D, *control) control points, at least 4 an axis; as fractions of each axis' length.
        mode: linear for images, nearest for labels.
        fill: what lies outside of the image.
    """
    spatial = tuple(image.shape[2:])
    n = len(image)
    if min(displacement.shape[2:]) < 4:
        raise SettingsError(
            f"displacement {tuple(displacement.shape)}: a cubic B-spline needs 4 control points an axis"
        )
    points = displacement.float().expand(n, *displacement.shape[1:])
    grid = sampling_grid(
        spatial, spatial, origin=torch.zeros(n, len(spatial), device=image.device), displacement=points
    )
    return resample(image, grid, mode, fill)


@dataclass(frozen=True)
class Spatial:
    """A distribution of flips, affine maps, elastic deformations and crops.

    A range is (low, high), drawn from uniformly, or one number that is always taken.

    Attributes:
        flip_axes: spatial axes that anatomy allows to be reversed, each with `flip_probability`.
        flip_probability: of each of `flip_axes`, on its own.
        affine_probability: of an affine map; its parts are then drawn from the ranges below.
        rotation: degrees, (low, high), about each axis in 3D.
        scale: (low, high) of one magnification of all axes, drawn uniformly in its logarithm.
        shear: (low, high).
        translation: (low, high) as a fraction of the output's length along each axis.
        elastic_probability: of an elastic deformation.
        elastic_magnitude: (low, high) of the largest displacement of a control point, as a fraction of the output's
            length. At most 0.4 / (control - 3): so far no cubic B-spline deformation folds (Choi and Lee 2000).
        control: control points along each axis.
        size: output's spatial shape; None keeps the input's. Smaller inputs are padded evenly.
        place: of a crop: anywhere, each place as likely, or the middle.
        spacing: mm, for all images alike; `draw` takes those of each image instead.
        fill: what lies outside of the image (target and maps: 0).
    """

    flip_axes: tuple[int, ...] = ()
    flip_probability: float = 0.5
    affine_probability: float = 0.0
    rotation: Between = (-15.0, 15.0)
    scale: Between = (0.85, 1.2)
    shear: Between = (0.0, 0.0)
    translation: Between = (0.0, 0.0)
    elastic_probability: float = 0.0
    elastic_magnitude: Between = (0.0, 0.05)
    control: int = 7
    size: tuple[int, ...] | None = None
    place: Literal["random", "centre"] = "random"
    spacing: tuple[float, ...] | None = None
    fill: Fill = "minimum"

    def __post_init__(self) -> None:
        for name in ("rotation", "scale", "shear", "translation", "elastic_magnitude"):
            allowed = (1e-3, 1e3) if name == "scale" else (-math.inf, math.inf)
            object.__setattr__(self, name, parse_range(f"Spatial: {name}", getattr(self, name), allowed))
        for name in ("flip_probability", "affine_probability", "elastic_probability"):
            parse_probability(f"Spatial: {name}", getattr(self, name))
        if self.control < 4:
            raise SettingsError(f"control={self.control}: a cubic B-spline needs at least 4 control points an axis")
        most = 0.4 / (self.control - 3)
        parse_range(f"Spatial: elastic_magnitude (with control={self.control})", self.elastic_magnitude, (0, most))
        if self.spacing is not None and min(self.spacing) <= 0:
            raise SettingsError(f"spacing={self.spacing}: each is above 0 mm")

    def draw(self, shape: Sequence[int], generator: torch.Generator, spacing: Tensor | None = None) -> Parameters:
        """Parameters for images of `shape` (B, C, *spatial), on the generator's device.

        Every number is drawn whether or not it is used, so a change of one probability leaves the other draws.

        Args:
            shape: of the batch.
            generator: the only source of randomness.
            spacing: (B, D) or (D,) mm; takes the place of the one declared.

        Returns:
            flip (B, D), affine_on (B,), elastic_on (B,), rotation, scale, shear, translation, displacement
            (B, D, *control), origin (B, D), and spacing (B, D) where there is one.
        """
        n, dims, spatial = int(shape[0]), len(shape) - 2, [int(s) for s in shape[2:]]
        if dims not in (2, 3):
            raise SettingsError(f"images are (B, C, *spatial) with 2 or 3 spatial axes; found the shape {tuple(shape)}")
        if not set(self.flip_axes) <= set(range(dims)):
            raise SettingsError(f"flip_axes={self.flip_axes}: the spatial axes of {dims}D images are 0 to {dims - 1}")
        for name, given in (("size", self.size), ("spacing", self.spacing)):
            if given is not None and len(given) != dims:
                raise SettingsError(f"{name}={given}: {dims}D images need {dims} numbers")
        device = generator.device

        def coin(*count: int) -> Tensor:
            return torch.rand(*count, generator=generator, device=device)

        def between(name: str, *count: int, log: bool = False) -> Tensor:
            return draw_uniform(count, getattr(self, name), generator, log=log)

        angles = 1 if dims == 2 else 3
        may_flip = torch.zeros(dims, dtype=torch.bool, device=device)
        may_flip[list(self.flip_axes)] = True
        parameters = {
            "flip": (coin(n, dims) < self.flip_probability) & may_flip,
            "affine_on": coin(n) < self.affine_probability,
            "elastic_on": coin(n) < self.elastic_probability,
            "rotation": between("rotation", n, angles),
            "scale": between("scale", n, 1, log=True).expand(n, dims),
            "shear": between("shear", n, angles),
            "translation": between("translation", n, dims),
        }
        magnitude = between("elastic_magnitude", n, *[1] * (dims + 1))
        parameters["displacement"] = magnitude * (2 * coin(n, dims, *[self.control] * dims) - 1)
        room = torch.tensor(spatial, device=device) - torch.tensor(self.size or spatial, device=device)
        chance = coin(n, dims) if self.place == "random" else torch.full((n, dims), 0.5, device=device)
        anywhere = (chance * (room + (self.place == "random"))).floor().long()
        parameters["origin"] = torch.where(room >= 0, anywhere, torch.div(room, 2, rounding_mode="floor"))
        mm = spacing if spacing is not None else None if self.spacing is None else torch.tensor(self.spacing)
        if mm is not None:
            parameters["spacing"] = mm.to(device, torch.float32).expand(n, dims)
        return parameters

    def apply(
        self,
        image: Tensor,
        parameters: Parameters,
        target: Tensor | None = None,
        maps: Mapping[str, Tensor] | None = None,
    ) -> Moved:
        """Move `image` (B, C, *spatial) and `maps` (B, 1, *spatial) linearly, `target` (B, *spatial) nearest.

        Parameters drawn for one sample serve any batch. With nothing to do the very tensors that came in are returned.
        """
        n, spatial = len(image), tuple(image.shape[2:])
        size = self.size or spatial
        drawn = {name: value.to(image.device).expand(n, *value.shape[1:]) for name, value in parameters.items()}
        on = drawn["affine_on"] | drawn["elastic_on"]
        if size == spatial and not bool((on | drawn["flip"].any(1)).any()):
            return Moved(image, target, dict(maps or {}))
        bent, copied = on.nonzero()[:, 0], (~on).nonzero()[:, 0].tolist()
        grid = self._grid(spatial, size, {name: value[bent] for name, value in drawn.items()})
        flips, origins = drawn["flip"].tolist(), drawn["origin"].tolist()

        def move(values: Tensor, mode: Mode, fill: Fill) -> Tensor:
            out = values.new_empty(*values.shape[:2], *size)
            at_once = images_at_once(values)
            for start in range(0, len(bent), at_once):
                which = bent[start : start + at_once]
                here = which if len(which) > 1 else slice(int(which), int(which) + 1)  # a slice is not copied
                out[here] = resample(values[here], grid[start : start + at_once], mode, fill)
            for i in copied:
                axes = [axis for axis, yes in enumerate(flips[i]) if yes]
                out[i : i + 1] = crop(flip(values[i : i + 1], axes), origins[i], size, fill)
            return out

        return Moved(
            move(image, "linear", self.fill),
            None if target is None else move(target[:, None], "nearest", "zeros")[:, 0],
            {name: move(value, "linear", "zeros") for name, value in (maps or {}).items()},
        )

    def _grid(self, spatial: Sequence[int], size: Sequence[int], drawn: Parameters) -> Tensor:
        """One sampling grid of all that was drawn; a part that is off is the identity."""
        dims = len(spatial)
        off = ~drawn["affine_on"][:, None]
        matrix = affine_matrix(
            drawn["rotation"].masked_fill(off, 0),
            drawn["scale"].masked_fill(off, 1),
            drawn["shear"].masked_fill(off, 0),
            drawn.get("spacing"),
        )
        bend = drawn["elastic_on"]
        return sampling_grid(
            spatial,
            size,
            origin=drawn["origin"].float(),
            matrix=matrix,
            translation=drawn["translation"].masked_fill(off, 0),
            displacement=drawn["displacement"] * bend[(...,) + (None,) * (dims + 1)] if bool(bend.any()) else None,
            flips=drawn["flip"],
        )

    def __call__(
        self,
        image: Tensor,
        generator: torch.Generator,
        target: Tensor | None = None,
        maps: Mapping[str, Tensor] | None = None,
        spacing: Tensor | None = None,
    ) -> Moved:
        """Draw, then apply."""
        return self.apply(image, self.draw(image.shape, generator, spacing), target, maps)
