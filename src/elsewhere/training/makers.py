"""Which makers of batches a training needs: its own, one for further batches, one for unlabelled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from lightning_fabric import Fabric

from elsewhere.methods import Batch
from elsewhere.study.case import StoredCase
from elsewhere.training.batches import BatchMaker, Reader
from elsewhere.training.randomness import number
from elsewhere.training.recipe import Recipe, default_flip_axes
from elsewhere.training.sampler import Sampler
from elsewhere.training.settings import Settings

if TYPE_CHECKING:
    from elsewhere.study.seal import Development


class Unlabelled(Protocol):
    """Images of the target site without labels, for a method that declares that it sees them."""

    @property
    def case_ids(self) -> Sequence[str]:
        """Of all of them."""
        ...

    def load(self, case_id: str) -> StoredCase:
        """A case whose label is None."""
        ...


class Makers:
    """Makers of batches that differ only in what they read and in their stream of random numbers."""

    def __init__(
        self, fabric: Fabric, development: Development, settings: Settings, seed: int, multiple_of: Sequence[int]
    ) -> None:
        self.fabric, self.development, self.settings, self.seed = fabric, development, settings, seed
        self.multiple_of = multiple_of
        axes = default_flip_axes(development.task, development.dims)
        chosen = axes if settings.flip_axes is None else settings.flip_axes
        self.recipe = Recipe(chosen) if settings.augmentation == "default" else None
        self.cases: dict[str, list[str]] = {}
        self.maps: set[str] = set()
        for case_id in development.split.train:
            case = development.case(case_id)
            self.cases.setdefault(case.site, []).append(case_id)
            self.maps |= set(case.maps)

    def training(self, stream: str, ahead: bool | None = None) -> BatchMaker:
        """Batches of the training cases; another `stream` is another order, other patches, other augmentation."""
        return self._maker(self.development, self.cases, self.settings.sampler, stream, ahead=ahead)

    def unlabelled(self, reader: Unlabelled | None) -> Callable[[int], Batch] | None:
        """Batches of unlabelled images, every case as often as any other; None where there is no reader."""
        if reader is None:
            return None
        ids = {"target": list(reader.case_ids)}
        return self._maker(reader, ids, "pooled", "unlabelled", labelled=False, ahead=False).batch

    def _maker(
        self,
        reader: Reader,
        cases: Mapping[str, Sequence[str]],
        kind: str,
        stream: str,
        *,
        labelled: bool = True,
        ahead: bool | None = None,
    ) -> BatchMaker:
        settings, development, world = self.settings, self.development, self.fabric.world_size
        hands = world * settings.accumulate
        seed = number(self.seed, stream)
        return BatchMaker(
            reader,
            Sampler(cases, settings.batch_size or 1, seed, kind, hands),
            development.preprocessing,
            site_index=development.site_index if labelled else {},
            recipe=self.recipe,
            segmentation=development.task == "segmentation",
            seed=seed,
            maps=sorted(self.maps),
            patch_size=development.preprocessing.patch_size,
            multiple_of=self.multiple_of,
            foreground=settings.foreground,
            device=self.fabric.device,
            rank=self.fabric.global_rank,
            world=world,
            labelled=labelled,
            ahead=ahead,
        )
