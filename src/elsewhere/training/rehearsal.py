"""Everything that a training builds, built once before it: what cannot be is said now, and not in each run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from elsewhere import methods, networks, tasks
from elsewhere.errors import SettingsError
from elsewhere.networks import pretrained
from elsewhere.study.preprocessing import per_axis
from elsewhere.training.randomness import own_state
from elsewhere.training.threads import one_thread

if TYPE_CHECKING:
    from elsewhere.study.study import Study
    from elsewhere.training.settings import Settings


def rehearse(settings: Settings, study: Study, chosen: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Build the network, and each method around it; nothing is kept, and torch's random state is as it was.

    Reads the files that options name, such as an extractor's weights. Import paths must have been trusted. What only
    the images tell (the channels of a colour file, patch and spacing where nobody gave them) is not known here: a
    network by import path that cannot be built is left to the training.

    Args:
        settings: resolved.
        study: opened; no image is read.
        chosen: methods, and the options that each is given.

    Raises:
        SettingsError: a network that there is not or that is for another task, an option that it does not have, a patch
            that it does not take; a method that refuses network or options.
        ModelError: weights that a method cannot use.
    """
    name, options = str(settings.network), settings.network_options
    entry = networks.get(name)
    if study.task not in entry.kinds or study.dims not in entry.dims:
        fit = ", ".join(networks.names(study.task, study.dims))
        raise SettingsError(f"network {name} is not for {study.task} in {study.dims}D; wanted one of: {fit}")
    asked = settings.patch_size if settings.patch_size is not None else study.config.patch_size
    patch = per_axis("patch_size", asked, study.dims)
    _check_patch(name, options, patch, settings, study)
    task = tasks.create(study.task, study.dims, tuple(study.classes))
    with one_thread():
        for method, own in chosen:
            try:
                with pretrained.layout_only():  # of the network: weights of its own would be downloaded
                    network = networks.build(
                        name,
                        dims=study.dims,
                        in_channels=len(study.channels),
                        out_channels=task.n_outputs,
                        kind=study.task,
                        patch_size=patch,
                        spacing=_spacing(settings, study),
                        **options,
                    )
            except Exception:
                if entry.any_options:
                    return
                raise
            with own_state(0):  # as many sites as there can be
                methods.create(method, network, task, n_sites=len(study.sites), **own)


def _check_patch(
    name: str, options: Mapping[str, Any], patch: tuple[int, ...] | None, settings: Settings, study: Study
) -> None:
    """A patch that is asked for must fit the network's halvings, which may depend on a spacing only the images tell."""
    if patch is None:
        return
    known = _spacing(settings, study)
    coarse = [tuple(100.0 if i == axis else 1.0 for i in range(study.dims)) for axis in range(study.dims)]
    multiples = [
        networks.multiple_of(name, options, study.dims, patch_size=patch, spacing=spacing)
        for spacing in ([known] if known is not None else [None, *coarse])
    ]
    if all(any(n % m for n, m in zip(patch, multiple, strict=True)) for multiple in multiples):
        raise SettingsError(
            f"patch_size={list(patch)} does not fit network {name}; each must be a multiple of {list(multiples[0])}"
        )


def _spacing(settings: Settings, study: Study) -> tuple[float, ...] | None:
    """What images will be resampled to, where somebody said so (`study.preprocessing.decide` has the order)."""
    if settings.size is not None:
        return None
    asked = settings.spacing if settings.spacing is not None else study.config.spacing
    return per_axis("spacing", asked, study.dims)
