"""DropGen: image and stable features together, under channel dropout (Diaz et al. 2026)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from elsewhere.errors import SettingsError
from elsewhere.methods.base import Batch, Card, Context, Method
from elsewhere.methods.registry import register
from elsewhere.networks import pretrained, stable
from elsewhere.networks.widen import input_channels, widen
from elsewhere.tasks.base import Task


class StableFeatures(nn.Module):
    """Images and what a frozen extractor sees in them, as the channels of one tensor.

    (B, C, *spatial) to (B, C + F, *spatial): the image's channels first, then the extractor's, normalised so that both
    have about the same scale.

    Args:
        extractor: see `elsewhere.networks.stable`.
        norm: of the features, "instance" (zero mean and unit variance of each channel over its image, as in the
            paper's code), "voxel" (unit length of each voxel's features) or "none".
        image: whether the image's own channels are there; without them features alone remain.
        scale: features are multiplied by this.

    Raises:
        SettingsError: another word for `norm`, or a scale that is no finite number above 0.
    """

    extractor: stable.Extractor

    def __init__(
        self, extractor: stable.Extractor, norm: str = "instance", image: bool = True, scale: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise SettingsError(f"stable features: scale must be a finite number above 0, found {scale}")
        self.extractor = extractor
        self.norm = stable.feature_norm(norm, extractor.features)
        self.image = image
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, C, *spatial) to image and features; gradients pass to the image by its own channels alone."""
        with torch.no_grad():
            features = (self.norm(self.extractor(image)) * self.scale).to(image.dtype)
        return torch.cat([image, features], dim=1) if self.image else features


class ChannelDropout(nn.Module):
    """Whole channels are set to zero, each of each case on its own; those that stay are divided by 1 - p.

    In evaluation mode it does nothing. "Feature combination regularisation" of the paper drops among all channels, the
    image's included.

    Args:
        p: probability that a channel is dropped.
        first: channels at the front that have a probability of their own, the image's.
        p_first: theirs; None: `p`.

    Where all channels of a case are dropped at once, with probability p ** C, that case trains on zeros.

    Raises:
        SettingsError: a probability outside [0, 1), or a number of channels below 0.
    """

    def __init__(self, p: float = 0.75, first: int = 0, p_first: float | None = None) -> None:
        super().__init__()
        for name, value in (("p", p), ("p_first", p_first)):
            if value is not None and not 0 <= value < 1:
                raise SettingsError(f"dropout of channels: {name} must be at least 0 and below 1, found {value}")
        if first < 0:
            raise SettingsError(f"dropout of channels: first must be a number of channels, 0 or more, found {first}")
        self.p, self.first, self.p_first = p, first, p_first

    def forward(self, channels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, C, *spatial), and a generator on its device (None: torch's own)."""
        if not self.training:
            return channels
        keep = self.kept(channels, generator)
        return channels * keep.view(*keep.shape, *(1,) * (channels.ndim - 2))

    def kept(self, channels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, C): 0 for a dropped channel, 1 / (1 - p) for one that stays."""
        p = torch.full(channels.shape[1:2], self.p, device=channels.device)
        if self.p_first is not None:
            p[: self.first] = self.p_first
        drawn = torch.rand(channels.shape[:2], generator=generator, device=channels.device)
        return ((drawn >= p) / (1 - p)).to(channels.dtype)


@register
class DropGen(Method):
    """Any network on image and stable features, trained under dropout of channels, deployed without.

    The network comes built for the image; the layers that take it are widened (`networks.widen`). With `drop_image`
    false the image's channels always stay, with `p_image` they have a probability of their own (our addition; why:
    docs/explanation/dropgen.md). With `image` false features alone remain, with the extractor "none" the image alone:
    the ablations of figure 4 of the paper.

    Options: `extractor`, a name of `networks.stable` (or an import path, where trusted), with `extractor_options` and
    `weights`, a file; `norm`, `scale` as in `StableFeatures`; `p`, `p_image` (null: `p`), `drop_image`.

    Raises:
        SettingsError: neither image nor features, a probability for an image that is not there or not dropped, or one
            outside [0, 1), or an option of the extractor that is none.
    """

    card = Card(
        name="dropgen",
        title="Stable features and image under channel dropout",
        paper="Diaz et al., Why invariance is not enough for biomedical domain generalization, 2026, arXiv 2604.02564",
        assumption="what a pretrained extractor sees survives a change of acquisition, and holds part of the answer",
        shift=("acquisition",),
        defaults={
            "extractor": "mind",
            "extractor_options": {},
            "weights": "",
            "p": 0.75,
            "drop_image": True,
            "p_image": None,
            "image": True,
            "norm": "instance",
            "scale": 1.0,
        },
        ranges={"p": (0.0, 0.9), "p_image": (0.0, 0.99), "scale": (0.1, 10.0)},
        files=("weights",),
        imports=("extractor",),
        null={"extractor": "none", "p": 0.0},
    )

    def __init__(self, network: nn.Module, task: Task, *, n_sites: int = 1, **options: Any) -> None:
        super().__init__(network, task, n_sites=n_sites, **options)
        name, with_image = str(self.options["extractor"]), bool(self.options["image"])
        channels = input_channels(network)
        self.stable: StableFeatures | None = None
        if name != "none":
            weights = self.options["weights"] or None
            own = stable.own_options(self.options["extractor_options"])
            extractor = stable.build(name, task.dims, weights=weights, load=pretrained.wanted(), **own)
            self.stable = StableFeatures(
                extractor, str(self.options["norm"]), image=with_image, scale=float(self.options["scale"])
            )
            widen(network, channels * (extractor.features - (not with_image)), task.dims)
        self.dropout = ChannelDropout(
            float(self.options["p"]), first=channels if with_image else 0, p_first=_image_probability(self.options)
        )

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """See `Method.check`."""
        if options["extractor"] == "none" and not options["image"]:
            raise SettingsError("method dropgen: image=false leaves features alone, and extractor is none")
        ChannelDropout(float(options["p"]), p_first=_image_probability(options))
        stable.feature_norm(str(options["norm"]))
        stable.own_options(options["extractor_options"])
        if not 0 < float(options["scale"]) < math.inf:
            raise SettingsError(f"method dropgen: scale must be a number above 0, found {options['scale']}")

    @classmethod
    def own_files(cls, options: Mapping[str, Any]) -> dict[str, Path]:
        """The weights of an extractor that has some of its own, shipped with this package or on the Hub."""
        if options.get("weights"):
            return {}
        path = stable.own_weights(str(options.get("extractor", cls.card.defaults["extractor"])))
        return {} if path is None else {"weights": path}

    def inputs(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) to what the network takes: the image's channels, then the features."""
        return image if self.stable is None else self.stable(image)

    def forward(self, image: Tensor) -> Tensor:
        """Image to logits; nothing is dropped."""
        logits: Tensor = self.network(self.inputs(image))
        return logits

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss with channels dropped."""
        kept = self.dropout(self.inputs(batch.image), context.generator)
        return {"loss": self.task.loss(self.network(kept), batch.target).mean()}

    def saved_options(self) -> dict[str, Any]:
        """With the extractor's layout in place of its file: the weights are part of the saved model."""
        if self.stable is None:
            return dict(self.options)
        return {**self.options, "weights": "", "extractor_options": dict(self.stable.extractor.layout)}


def _image_probability(options: Mapping[str, Any]) -> float | None:
    """Of the image's own channels; None: that of all."""
    own, dropped, there = options["p_image"], options["drop_image"], options["image"]
    if own is not None and not (dropped and there):
        reason = "drop_image=false keeps the image" if there else "image=false leaves no image"
        raise SettingsError(f"method dropgen: p_image={own} is how often the image is dropped, but {reason}")
    if own is not None and not 0 <= float(own) < 1:
        raise SettingsError(f"method dropgen: p_image must be at least 0 and below 1, found {own}")
    if not dropped:
        return 0.0
    return None if own is None else float(own)
