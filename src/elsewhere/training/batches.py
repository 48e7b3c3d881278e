"""From case ids to batches: read, cut patches, stack, move to the device, normalise, augment; nothing is remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elsewhere.acquisition.geometry_patches import cut, foreground_index, patch_origin
from elsewhere.errors import StudyError
from elsewhere.methods import Batch
from elsewhere.study.case import StoredCase
from elsewhere.study.preprocessing import Preprocessing, Stats
from elsewhere.training.randomness import number
from elsewhere.training.recipe import Recipe

if TYPE_CHECKING:
    from elsewhere.training.sampler import Sampler

Foreground = Mapping[int, NDArray[np.int32]]

OPEN_CASES = 256
"""Cases kept open: memory maps cost a file handle each, and processes are often allowed no more than 1024."""


class Reader(Protocol):
    """Whatever gives stored cases by id: `Development`, or the reader of unlabelled images of the target."""

    def load(self, case_id: str) -> StoredCase:
        """The case."""
        ...


@dataclass(frozen=True)
class _Patch:
    """A patch as it was cut: raw intensities, and where in it the image is."""

    image: NDArray[Any]
    target: NDArray[Any] | int | None
    maps: dict[str, NDArray[np.float32]]
    inside: tuple[slice, ...] | None
    stored: StoredCase


class BatchMaker:
    """Makes the batch of any step, as a pure function of (seed, step, rank).

    Args:
        reader: of the cases; only images, labels and maps of the cases that are asked for are touched.
        sampler: which cases a step sees.
        preprocessing: of the development.
        site_index: site name -> index; a site that is not there becomes -1.
        recipe: the augmentation; None for none.
        segmentation: targets are masks.
        maps: names of all per-case maps of the study; a case that lacks one gets all ones (our choice: an absent field
            of view mask means that all of the image is in view); beyond the image every map is 0.
        patch_size: of the batch; None for whole images, which must then be of one shape.
        multiple_of: whole images are padded to multiples of this.
        foreground: share of the patches that are centred on foreground.
        seed: of places and augmentation.
        device: of the batch.
        rank, world: this process and their number; each makes its contiguous slice of the step's cases.
        labelled: False: targets are all -1.
        ahead: the next batch is read in a background thread while the device works; None: where the device is a GPU
            (on a CPU both would share the cores: our choice, not measured).
    """

    def __init__(
        self,
        reader: Reader,
        sampler: Sampler,
        preprocessing: Preprocessing,
        *,
        site_index: Mapping[str, int],
        recipe: Recipe | None,
        segmentation: bool,
        seed: int,
        maps: Sequence[str] = (),
        patch_size: Sequence[int] | None = None,
        multiple_of: Sequence[int] = (1, 1, 1),
        foreground: float = 0.0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        labelled: bool = True,
        ahead: bool | None = None,
    ) -> None:
        self.reader, self.sampler, self.preprocessing = reader, sampler, preprocessing
        self.site_index, self.recipe, self.segmentation = site_index, recipe, segmentation
        self.seed, self.maps, self.labelled = seed, tuple(maps), labelled
        self.patch_size = None if patch_size is None else tuple(int(n) for n in patch_size)
        self.multiple_of, self.foreground = tuple(multiple_of), foreground
        self.device = torch.device(device)
        self.rank, self.world = rank, world
        self._open: OrderedDict[str, tuple[StoredCase, Foreground]] = OrderedDict()
        threaded = self.device.type == "cuda" if ahead is None else ahead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches") if threaded else None
        self._next: tuple[int, Future[list[_Patch]]] | None = None
        self._generator = torch.Generator(self.device)

    def batch(self, step: int) -> Batch:
        """The batch of `step`, this process' slice of it.

        Raises:
            StudyError: whole images of several shapes.
        """
        if self._thread is None:
            return self._finish(self._read(step), step)
        future = self._next[1] if self._next is not None and self._next[0] == step else None
        host = self._thread.submit(self._read, step).result() if future is None else future.result()
        self._next = (step + 1, self._thread.submit(self._read, step + 1))
        return self._finish(host, step)

    def close(self) -> None:
        """Stop the background thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)

    # ---- on the host

    def _read(self, step: int) -> list[_Patch]:
        ids = self.sampler.cases(step)
        share = len(ids) // self.world
        first = self.rank * share
        mine = [self._opened(case_id) for case_id in ids[first : first + share]]
        patch = self.patch_size or self._whole([stored for stored, _ in mine])
        margin = self.recipe.margin(patch) if self.recipe is not None and self.patch_size else (0,) * len(patch)
        return [
            self._cut(stored, foreground, patch, margin, slot)
            for slot, (stored, foreground) in enumerate(mine, start=step * len(ids) + first)
        ]

    def _cut(
        self, stored: StoredCase, foreground: Foreground, patch: Sequence[int], margin: Sequence[int], slot: int
    ) -> _Patch:
        generator = np.random.default_rng(number(self.seed, "patch", slot))
        shape = stored.image.shape[1:]
        origin = patch_origin(shape, patch, generator, foreground, self.foreground)
        origin = tuple(o - m for o, m in zip(origin, margin, strict=True))
        size = tuple(n + 2 * m for n, m in zip(patch, margin, strict=True))
        within = tuple(slice(max(-o, 0), min(n, length - o)) for o, n, length in zip(origin, size, shape, strict=True))
        whole = all(w.start == 0 and w.stop == n for w, n in zip(within, size, strict=True))
        masks = self.segmentation and self.labelled
        return _Patch(
            cut(stored.image, origin, size),
            cut(np.asarray(stored.label), origin, size) if masks else stored.label,
            {
                name: cut(stored.maps.get(name, np.broadcast_to(np.float32(1), shape)), origin, size)
                for name in self.maps
            },
            None if whole else within,
            stored,
        )

    def _whole(self, mine: Sequence[StoredCase]) -> tuple[int, ...]:
        shapes = {stored.image.shape[1:]: stored.case.id for stored in mine}
        if len(shapes) > 1:
            (one, first), (other, second) = list(shapes.items())[:2]
            raise StudyError(
                f"cases of different sizes cannot be one batch: {first} is {_by(one)}, {second} is {_by(other)}; "
                f"set size={list(one)} or patch_size={list(one)}"
            )
        return tuple(-(-n // m) * m for n, m in zip(next(iter(shapes)), self.multiple_of, strict=False))

    def _opened(self, case_id: str) -> tuple[StoredCase, Foreground]:
        if case_id in self._open:
            self._open.move_to_end(case_id)
            return self._open[case_id]
        stored = self.reader.load(case_id)
        if self.labelled and stored.label is None:
            raise StudyError(f"case {case_id} has no label; it cannot be trained on")
        foreground: Foreground = {}
        if self.segmentation and self.labelled and self.patch_size and self.foreground > 0:
            thinning = np.random.default_rng(number(self.seed, "foreground", case_id))
            foreground = foreground_index(np.asarray(stored.label), thinning)
        self._open[case_id] = (stored, foreground)
        if len(self._open) > OPEN_CASES:
            self._open.popitem(last=False)
        return stored, foreground

    # ---- on the device

    def _finish(self, patches: Sequence[_Patch], step: int) -> Batch:
        image = self._normalised(patches)
        maps = {
            name: torch.from_numpy(np.stack([patch.maps[name] for patch in patches])[:, None]).float().to(self.device)
            for name in self.maps
        }
        cases = [patch.stored.case for patch in patches]
        spacing = None
        if all(patch.stored.geometry.spacing is not None for patch in patches):
            spacing = torch.tensor([patch.stored.geometry.spacing for patch in patches], device=self.device)
        target = self._target(patches) if self.labelled else None
        if self.recipe is not None:
            self._generator.manual_seed(number(self.seed, "augment", step, self.rank))
            masks = target if self.segmentation else None
            image, moved, maps = self.recipe(image, self._generator, masks, maps, self.patch_size, spacing)
            target = target if moved is None else moved
        if target is None:
            shape = (len(image), *(image.shape[2:] if self.segmentation else ()))
            target = torch.full(shape, -1, dtype=torch.int64, device=self.device)
        return Batch(
            image=image,
            target=target,
            site=torch.tensor([self.site_index.get(case.site, -1) for case in cases], device=self.device),
            maps=maps,
            attributes={key: [case.covariates.get(key) for case in cases] for key in cases[0].covariates},
            spacing=spacing,
            case=tuple(case.id for case in cases),
        )

    def _normalised(self, patches: Sequence[_Patch]) -> Tensor:
        raw = torch.from_numpy(np.stack([patch.image for patch in patches])).to(self.device)
        image = self.preprocessing.normalise(raw, Stats.of(*[patch.stored for patch in patches]))
        for i, patch in enumerate(patches):
            if patch.inside is not None:  # 0 after normalisation, as prediction pads
                where = (slice(None), *patch.inside)
                inside = image[i][where].clone()
                image[i].zero_()[where] = inside
        return image

    def _target(self, patches: Sequence[_Patch]) -> Tensor:
        targets = np.stack([np.asarray(patch.target) for patch in patches])
        return torch.from_numpy(targets).to(self.device).long()


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)
