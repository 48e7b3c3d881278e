"""A frozen model on cases: probabilities in the geometry of the file, and what tells whether a case is a usual one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elsewhere.deploy.features import Enough, FeatureTap, input_statistics
from elsewhere.errors import ElsewhereError, ModelError, SealError
from elsewhere.study.case import Picture, StoredCase
from elsewhere.study.resample import to_original
from elsewhere.tasks import predict
from elsewhere.training.model_io import Deployed

BATCH = 32
"""Images of one size that a classifier takes at once."""

NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")
"""What torch says where there is none."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one case.

    Attributes:
        stored: the case.
        probabilities: (K, *spatial of the file) float32 for segmentation, (K,) float64 for classification; as the
            network gives them, no temperature applied.
        features: (D,) float32, see `FeatureTap`; (0,) where the inside of the model cannot be seen.
        inputs: (P,) float32, see `input_statistics`.
    """

    stored: StoredCase
    probabilities: NDArray[Any]
    features: NDArray[np.float32]
    inputs: NDArray[np.float32]


@dataclass(frozen=True)
class Predictor:
    """A deployed model and how it is run. The model is left as it is; what it says is a function of the case alone.

    Attributes:
        model: normalised image (B, C, *spatial) to logits, frozen; brings its preprocessing.
        overlap: of the sliding window.
        device: of the model.
    """

    model: Deployed
    overlap: float = 0.5
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the outputs."""
        return self.model.task.classes

    @property
    def segments(self) -> bool:
        """The task is segmentation."""
        return self.model.task.kind == "segmentation"

    def answers(self, stored: Iterable[StoredCase]) -> Iterator[Answer]:
        """Predict each case, in order. A volume is held from when it is read until its answer is let go.

        Args:
            stored: cases on the grid of the model's preprocessing; read as they are needed, so a generator keeps
                memory at one volume (classification: `BATCH` images).

        Raises:
            ModelError: the model fails on a case; names it.
        """
        tap = FeatureTap(self.model, self.model.task.kind)
        if self.segments:
            for case in stored:
                with _named(case):
                    answer = self._segmented(case, tap)
                yield answer
        else:
            waiting = iter(stored)
            while some := list(islice(waiting, BATCH)):
                try:
                    answers = self._classified(some, tap)
                except Exception:  # of one of them: alone, each says whose it is
                    tap = FeatureTap(self.model, self.model.task.kind)
                    for case in some:
                        with _named(case):
                            (answer,) = self._classified([case], tap)
                        yield answer
                else:
                    yield from answers

    def labelled(
        self, cases: Iterable[str], load: Callable[[str], tuple[StoredCase, Picture | int]]
    ) -> Iterator[tuple[Answer, Picture | int]]:
        """The answer of each case, in order, with its label as `load` (case id to case and label) gives it."""
        labels: deque[Picture | int] = deque()

        def opened() -> Iterator[StoredCase]:
            for case in cases:
                stored, label = load(case)
                labels.append(label)
                yield stored

        for answer in self.answers(opened()):
            yield answer, labels.popleft()

    def features(self, stored: Iterable[StoredCase]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Features and input statistics of each case, as `answers` gives them, without its probabilities.

        A segmenter is stopped where its features are known, which spares its decoder.
        """
        if not self.segments:
            yield from ((answer.features, answer.inputs) for answer in self.answers(stored))
            return
        tap = FeatureTap(self.model, self.model.task.kind, stop=True)
        for case in stored:
            with _named(case):
                with torch.inference_mode(), tap:
                    self._windows(_Stopped(self.model), case, n_outputs=None)
                found = tap.take(1)[0], input_statistics(case)
            yield found

    def _classified(self, some: list[StoredCase], tap: FeatureTap) -> list[Answer]:
        with torch.inference_mode():
            images = [self._image(stored) for stored in some]
            alike = len({image.shape for image in images}) == 1
            groups = [torch.stack(images)] if alike else [image[None] for image in images]
            found = [self._logits(group.to(self.device), tap) for group in groups]
            # In 64 bits: in 32, all logits 17 apart or more are a probability of 1, and their cases tied in a ranking.
            probabilities = torch.cat([logits for logits, _ in found]).cpu().double().softmax(dim=1).numpy()
        features = np.concatenate([rows for _, rows in found])
        return [
            Answer(stored, row, feature, input_statistics(stored))
            for stored, row, feature in zip(some, probabilities, features, strict=True)
        ]

    def _logits(self, images: Tensor, tap: FeatureTap) -> tuple[Tensor, NDArray[np.float32]]:
        """(B, K) and (B, D). A model that sees several views of a batch has several features a case: one by one."""
        with tap:
            logits: Tensor = self.model(images)
        if tap.fits(len(images)):
            return logits, tap.take(len(images))
        tap.take(1)
        alone = []
        for image in images:
            with tap:
                self.model(image[None])
            alone.append(tap.take(1))
        return logits, np.concatenate(alone)

    def _segmented(self, stored: StoredCase, tap: FeatureTap) -> Answer:
        with torch.inference_mode(), tap:
            probabilities = self._windows(self.model, stored, n_outputs=len(self.classes))
        restored = to_original(probabilities.float().cpu().numpy(), stored)
        return Answer(stored, restored, tap.take(1)[0], input_statistics(stored))

    def _windows(self, model: nn.Module, stored: StoredCase, n_outputs: int | None) -> Tensor:
        """(K, *spatial of the stored image)."""
        image = np.require(stored.image, requirements=("C", "W"))  # as torch wants it
        return predict(
            model,
            torch.from_numpy(image)[None].to(self.device),
            self.model.patch_size,
            n_outputs,
            overlap=self.overlap,
            multiple_of=self.model.multiple_of,
            normalise=lambda window: self.model.preprocessing.normalise(window, stored),
        )[0]

    def _image(self, stored: StoredCase) -> Tensor:
        """(C, *spatial) float32, normalised by what the development cases said."""
        return self.model.preprocessing.normalise(torch.from_numpy(np.array(stored.image)), stored)


@contextmanager
def _named(stored: StoredCase) -> Iterator[None]:
    """Say of whatever goes wrong with which case it did.

    Raises:
        ModelError: of one sentence.
    """
    name = stored.case.id
    try:
        yield
    except SealError:
        raise
    except ElsewhereError as error:
        raise ModelError(f"case '{name}': {error}") from error
    except Exception as error:
        said = " ".join(str(error).split())
        if isinstance(error, MemoryError) or any(words in said for words in NO_MEMORY):
            raise ModelError(f"case '{name}': too large for the memory of this machine") from error
        raise ModelError(f"case '{name}': the model fails on it ({type(error).__name__}: {said[:200]})") from error


class _Stopped(nn.Module):
    """A segmenter whose answer nobody waits for: it may be stopped on the way."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, window: Tensor) -> Tensor:
        with suppress(Enough):
            self.model(window)
        return torch.zeros_like(window[:, :1])  # of its own: it is weighted in place
