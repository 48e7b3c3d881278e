from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from elsewhere.tasks.lesions import Lesions, lesions


def components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """By flooding, with all neighbours."""
    left = {tuple(int(i) for i in where) for where in np.argwhere(mask)}
    found = []
    while left:
        part, waiting = set(), [left.pop()]
        while waiting:
            here = waiting.pop()
            part.add(here)
            near = {there for there in left if max(abs(a - b) for a, b in zip(here, there, strict=True)) == 1}
            left -= near
            waiting += near
        found.append(part)
    return found


def counted(prediction: np.ndarray, truth: np.ndarray, index: int) -> tuple[int, int, int]:
    true, predicted = components(truth == index), components(prediction == index)
    found = sum(any(part & other for other in predicted) for part in true)
    return len(true), found, sum(not any(part & other for other in true) for part in predicted)


@given(st.data(), st.sampled_from([(6, 7), (3, 4, 5)]))
@settings(max_examples=60, deadline=None)
def test_it_agrees_with_flooding(data: st.DataObject, shape: tuple[int, ...]) -> None:
    labels = arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 2]))
    prediction, truth = data.draw(labels), data.draw(labels)
    for index in (1, 2):
        assert tuple(lesions(prediction, truth, index)) == counted(prediction, truth, index)


def test_worked_by_hand() -> None:
    truth = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    prediction = np.array([[0, 0, 0, 0, 0], [0, 1, 0, 0, 2], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0]])
    found = lesions(prediction, truth, 1)  # (0, 0) and (1, 1) touch at a corner: one lesion
    assert (found, found.missed) == (Lesions(3, 1, 1), 2)
    assert lesions(prediction, truth, 2) == Lesions(0, 0, 1)


def test_one_predicted_component_may_find_several_lesions() -> None:
    truth = np.zeros((3, 3, 7), np.int64)
    truth[1, 1, [0, 3, 6]] = 1
    assert lesions(np.ones_like(truth), truth, 1) == Lesions(3, 3, 0)


def test_empty_masks() -> None:
    empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
    assert lesions(empty, empty, 1) == Lesions(0, 0, 0)
    assert lesions(empty, full, 1) == Lesions(1, 0, 0)
    assert lesions(full, empty, 1) == Lesions(0, 0, 1)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        lesions(np.zeros((2, 2)), np.zeros((2, 3)), 1)
