"""What a pretraining sees: anatomies without a plan, pieces of label maps, two images of each."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from elsewhere.acquisition import Scanner, crop
from elsewhere.acquisition.anatomy_ensemble import ShapeEnsemble
from elsewhere.errors import SettingsError, StudyError
from elsewhere.training.pretrain import PretrainSettings
from elsewhere.training.pretrain.label_maps import digest, read_label_maps
from elsewhere.training.pretrain.views import Pairs, paint


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def maps(folder: Path) -> Path:
    """Two maps whose values are 0, 2, 17 and 0, 17, 4000; the structures fill half of each."""
    for name, values, shape in (("a.nii.gz", (2, 17), (20, 24, 22)), ("b.nii", (17, 4000), (18, 18, 30))):
        array = np.zeros(shape, dtype=np.int16)
        array[3:-3, 3:-3, 3:15] = values[0]
        array[5:-5, 5:-5, 5:10] = values[1]
        write(folder / name, array)
    (folder / "notes.txt").write_text("not a map")
    return folder


@pytest.mark.parametrize("spatial", [(24, 20), (16, 12, 14)])
def test_an_ensemble_has_many_structures_and_is_replayed(spatial: tuple[int, ...]) -> None:
    ensemble = ShapeEnsemble(body=0.5)
    labels = ensemble.draw((6, *spatial), generator())
    assert labels.shape == (6, *spatial)
    assert labels.dtype == torch.int64
    assert int(labels.min()) >= 0
    assert int(labels.max()) < len(ensemble.classes)
    assert torch.equal(labels, ensemble.draw((6, *spatial), generator()))
    assert not torch.equal(labels, ensemble.draw((6, *spatial), generator(1)))
    assert all(len(one.unique()) >= 5 for one in labels)
    alone = [bool((one == 0).any()) for one in labels]
    assert any(alone)
    assert not all(alone)


def test_an_ensemble_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(SettingsError, match="-1 blobs"):
        ShapeEnsemble(blobs=-1)
    with pytest.raises(SettingsError, match="regions"):
        ShapeEnsemble(regions=(5, 3))


def test_label_values_are_numbered_over_all_files(tmp_path: Path) -> None:
    found = read_label_maps([maps(tmp_path)], 3)
    assert found.names == ("label 0", "label 2", "label 17", "label 4000")
    assert [one.unique().tolist() for one in found.maps] == [[0, 1, 2], [0, 2, 3]]
    again = read_label_maps([tmp_path / "a.nii.gz", tmp_path / "b.nii"], 3)
    assert digest(found) == digest(again)
    assert digest(found) != digest(read_label_maps([tmp_path / "a.nii.gz"], 3))


@pytest.mark.parametrize("spatial", [(12, 12), (12, 12, 12)])
def test_pieces_of_maps_show_structures(tmp_path: Path, spatial: tuple[int, ...]) -> None:
    found = read_label_maps([maps(tmp_path)], len(spatial))
    pieces = found.draw((8, *spatial), generator())
    assert pieces.shape == (8, *spatial)
    assert all(bool((piece > 0).any()) for piece in pieces)
    assert set(pieces.unique().tolist()) == {0, 1, 2, 3}
    assert not torch.equal(pieces[0], pieces[1])
    assert torch.equal(pieces, found.draw((8, *spatial), generator()))


def test_a_map_that_is_none_is_named(tmp_path: Path) -> None:
    cases = {
        "half.nii": (np.full((4, 4, 4), 0.5, np.float32), "half.nii: has values that are not whole numbers"),
        "slice.nii": (np.ones((4, 4, 1), np.uint8), "slice.nii: is one slice"),
        "two.nii": (np.ones((4, 4, 4, 2), np.uint8), "two.nii: has 2 channels"),
        "empty.nii": (np.zeros((4, 4, 4), np.uint8), "they have 1 different values"),
    }
    for name, (array, sentence) in cases.items():
        with pytest.raises(StudyError, match=sentence):
            read_label_maps([write(tmp_path / name, array)], 3)
    (tmp_path / "broken.nii").write_bytes(b"nothing")
    with pytest.raises(StudyError, match=r"broken\.nii: cannot be read as NIfTI"):
        read_label_maps([tmp_path / "broken.nii"], 3)
    with pytest.raises(StudyError, match="no such file or folder"):
        read_label_maps([tmp_path / "absent"], 3)
    (tmp_path / "bare").mkdir()
    with pytest.raises(StudyError, match="no label map in this folder"):
        read_label_maps([tmp_path / "bare"], 3)


def test_the_real_label_maps_are_read(shared_data: Path) -> None:
    files = sorted((shared_data / "brain-label-maps").glob("*.nii.gz"))[:2]
    if not files:
        pytest.skip("brain-label-maps are not here")
    found = read_label_maps(files, 3)
    assert 53 <= len(found.names) <= 57
    piece = found.draw((1, 32, 32, 32), generator())
    assert len(piece.unique()) > 3


def unexplained(image: Tensor, labels: Tensor) -> float:
    """Variance within structures, as a share of all variance."""
    within = sum(float(image[labels == v].var(correction=0)) * int((labels == v).sum()) for v in labels.unique())
    return within / image.numel() / float(image.var(correction=0))


def test_two_views_share_borders_and_no_intensities() -> None:
    labels = ShapeEnsemble(body=0.0).draw((1, 48, 48), generator())
    images = paint(labels, generator())[:, 0]
    assert all(unexplained(image, labels[0]) < 0.6 for image in images)
    means = torch.stack([torch.stack([image[labels[0] == v].mean() for v in labels.unique()]) for image in images])
    assert abs(float(torch.corrcoef(means)[0, 1])) < 0.6
    akin = paint(labels, generator(), akin=1.0)[:, 0]
    means = torch.stack([torch.stack([image[labels[0] == v].mean() for v in labels.unique()]) for image in akin])
    assert float(torch.corrcoef(means)[0, 1]) > 0.95


def test_pairs_are_drawn_and_replayed(tmp_path: Path) -> None:
    for dims, given in ((2, None), (3, read_label_maps([maps(tmp_path)], 3))):
        pairs = Pairs.make(dims, PretrainSettings(size=16, shift=5), given)
        drawn, again = pairs.draw(3, generator()), pairs.draw(3, generator())
        assert drawn.images.shape == (2, 3, 1, *(16,) * dims)
        assert drawn.labels.ndim == dims + 1
        assert bool(torch.isfinite(drawn.images).all())
        assert torch.equal(drawn.images, again.images)
        assert torch.equal(drawn.labels, again.labels)
        assert drawn.where == again.where
        assert not torch.equal(drawn.images[0], drawn.images[1])


def test_the_overlap_is_what_both_windows_show() -> None:
    # Without a scanner a structure has one intensity in a view, up to its grain: the labels explain both overlaps.
    pairs = Pairs(2, 64, 20, 0.0, ShapeEnsemble(body=0.0), None, 0.0, Scanner([]))
    for seed in range(4):
        drawn = pairs.draw(1, generator(seed))
        assert any(drawn.where[0] + drawn.where[1])
        assert all(0 in pair for pair in zip(*drawn.where, strict=True))  # along each axis one window begins later
        labels = drawn.labels[0]
        for image in drawn.overlap(drawn.images.flatten(0, 1))[:, 0]:
            assert image.shape == labels.shape
            assert unexplained(image, labels) < 0.6
        # Taken for the window of the other view, as far as that goes, the labels explain less.
        one = drawn.images[0, 0, 0]
        wrong = crop(one[None, None], drawn.where[1], labels.shape)[0, 0]
        right = crop(one[None, None], drawn.where[0], labels.shape)[0, 0]
        assert unexplained(wrong, labels) > 1.5 * unexplained(right, labels)
