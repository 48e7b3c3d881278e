"""`train`: a method on a development, from settings to saved models."""

from __future__ import annotations

import json
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from elsewhere import methods, tasks
from elsewhere.errors import ElsewhereError, SettingsError
from elsewhere.identity import identifying
from elsewhere.methods import Method
from elsewhere.networks.layout import channels_last
from elsewhere.training.bfloat16 import check_bfloat16
from elsewhere.training.context import FabricContext, Objective
from elsewhere.training.log import close_loggers, make_loggers
from elsewhere.training.loop import Loop
from elsewhere.training.makers import Makers, Unlabelled
from elsewhere.training.model_io import build, describe, freeze, multiple_of, save_model, weights
from elsewhere.training.optimisation import factory, remember_rates
from elsewhere.training.settings import Settings, check_option
from elsewhere.training.state import Progress, Trained
from elsewhere.training.validation import Validation, validate

if TYPE_CHECKING:
    from elsewhere.study.seal import Development

NOT_PART_OF_THE_RESULT = ("loggers", "checkpoint_every", "log_every", "device")


@dataclass(frozen=True)
class _Job:
    """The arguments of `train`, so that they can go to several processes."""

    development: Development
    method: str
    settings: Settings
    options: dict[str, Any]
    seed: int
    folder: Path
    oracle: Callable[[nn.Module], float] | None
    unlabelled: Unlabelled | None
    progress: Callable[[Progress], None] | None


def train(
    development: Development,
    method: str,
    settings: Settings,
    *,
    seed: int,
    folder: Path | str,
    options: Mapping[str, Any] | None = None,
    oracle: Callable[[nn.Module], float] | None = None,
    unlabelled: Unlabelled | None = None,
    progress: Callable[[Progress], None] | None = None,
    fabric: Fabric | None = None,
) -> Trained:
    """Train a method on the training cases of a development.

    Writes `log.csv`, `checkpoint/` and `model/<rule>/` into `folder`. Called again with the same arguments after
    whatever killed it, it goes on from the last checkpoint and ends with the same weights, bit for bit on a CPU with
    the same number of threads. Torch's and NumPy's global generators are left as they are.

    A method may keep what it likes in buffers or in `get_extra_state` (tensors and plain values): both are in every
    checkpoint. Buffers are in the saved models too, extra state is not.

    Args:
        development: sealed off from the held-out site.
        method: name in the registry.
        settings: of the training.
        seed: of weights, order, patches, augmentation and dropout.
        folder: of the run.
        options: of the method.
        oracle: scores a frozen model at the held-out site, at every validation; the best model goes to `model/oracle`.
            Where `devices` is above 1 it is called in another process, so it must pickle.
        unlabelled: images of the held-out site; for a method whose card says `unlabelled_target`, and only for such.
        progress: told how far the training is (in a thread of this process where `devices` is above 1).
        fabric: a launched Fabric of the caller's; None: one is made from the settings.

    Raises:
        SettingsError: settings that do not fit each other, the study or the machine.
        RunError: the folder is of another training or cannot be written; the loss or the weights are not finite.
    """
    settings = settings.resolved(development.task, development.dims)
    card = methods.card(method)
    chosen = {key: check_option(method, key, value, card.defaults) for key, value in (options or {}).items()}
    methods.get(method).check({**card.defaults, **chosen})
    if card.unlabelled_target != (unlabelled is not None):
        needs = "needs" if card.unlabelled_target else "does not see"
        raise SettingsError(f"method {method} {needs} unlabelled images of the held-out site (its card's declaration)")
    job = _Job(development, method, settings, chosen, seed, Path(folder), oracle, unlabelled, progress)
    if fabric is not None:
        return _train(fabric, job)
    fabric = make_fabric(settings, Path(folder))
    return _train_and_close(fabric, job) if settings.devices == 1 else _launch(fabric, job)


def require_machine(settings: Settings) -> bool:
    """Tell whether a training here runs on a GPU.

    Raises:
        SettingsError: no GPU where one is needed.
    """
    gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not gpu:
        raise SettingsError("device=cuda: no GPU is visible to torch here; use device=cpu or device=auto")
    on_gpu = gpu and settings.device != "cpu"
    if settings.precision == "16-mixed" and not on_gpu:
        raise SettingsError("precision=16-mixed needs a GPU; on a CPU use bf16-mixed or 32-true")
    return on_gpu


def make_fabric(settings: Settings, folder: Path) -> Fabric:
    """Devices, precision, processes and loggers as the settings say.

    Raises:
        SettingsError: no GPU where one is needed, or a logger that is not installed.
    """
    on_gpu = require_machine(settings)
    strategy: Any = "auto"
    if settings.devices > 1:
        # Forked processes need no pickling; they cannot use CUDA if this process did.
        used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        start: Literal["spawn", "fork"] = "spawn" if used else "fork"
        # Methods may leave parameters unused in a step (DANN's discriminator).
        strategy = DDPStrategy(start_method=start, find_unused_parameters=True)
    with _quiet():
        return Fabric(
            accelerator="cuda" if on_gpu else "cpu",
            devices=settings.devices,
            strategy=strategy,
            precision=settings.precision,
            loggers=make_loggers(list(settings.loggers), folder),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Fabric says which precision it uses, once a run; the settings have said so."""
    log = logging.getLogger("lightning_fabric.utilities.rank_zero")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def _launch(fabric: Fabric, job: _Job) -> Trained:
    """Train in processes of their own; an error that is meant for people comes back as it was raised, progress too."""
    context = multiprocessing.get_context("spawn")
    errors: SimpleQueue[ElsewhereError] = context.SimpleQueue()
    told: SimpleQueue[Progress | None] = context.SimpleQueue()
    tell = job.progress

    def listen() -> None:
        while (progress := told.get()) is not None:
            if tell is not None:
                tell(progress)

    # Called here and not there: a caller's function may be of this process alone (a bar on the screen, a closure).
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    launch: Callable[..., dict[str, Any]] = fabric.launch
    try:
        there = replace(job, progress=None if tell is None else told.put)
        # Bound and not handed over: Fabric takes arguments apart where it spawns, and cannot a frozen dataclass.
        return Trained(**launch(partial(_in_a_process, job=there, errors=errors)))
    except ProcessRaisedException:
        if errors.empty():
            raise
        raise errors.get() from None
    finally:
        told.put(None)
        listener.join()


def _in_a_process(fabric: Fabric, job: _Job, errors: SimpleQueue[ElsewhereError]) -> dict[str, Any]:
    try:
        # Plain: Fabric takes apart what comes back, and cannot a frozen dataclass.
        return vars(_train_and_close(fabric, job))
    except ElsewhereError as error:
        errors.put(error)
        raise  # ends the other processes, which may wait for this one


def _train_and_close(fabric: Fabric, job: _Job) -> Trained:
    status = "failed"
    try:
        trained = _train(fabric, job)
        status = "success"
    finally:
        close_loggers(fabric.loggers, status)
    return trained


def _train(fabric: Fabric, job: _Job) -> Trained:
    development, settings, seed = job.development, job.settings, job.seed
    batch_size = settings.batch_size or 1
    if batch_size % fabric.world_size or batch_size < fabric.world_size * settings.accumulate:
        raise SettingsError(
            f"batch_size={batch_size} cannot be shared by {fabric.world_size} processes in {settings.accumulate} "
            f"parts; wanted a multiple of {fabric.world_size * settings.accumulate}"
        )
    if settings.precision == "bf16-mixed":
        check_bfloat16(fabric.device, development.dims)
    config, method = _build(job)
    method = method.to(fabric.device).train()
    if settings.channels_last:
        channels_last(method, development.dims)
    with_rates = list(method.optimizers(factory(settings)))
    remember_rates(with_rates)
    module, *optimizers = fabric.setup(Objective(method), *with_rates)
    multiple = multiple_of(config)
    makers = Makers(fabric, development, settings, seed, multiple)
    context = FabricContext(
        fabric,
        module,
        optimizers,
        total_steps=settings.steps,
        n_sites=len(development.sites),
        seed=seed,
        accumulate=settings.accumulate,
        clip=settings.clip,
        unlabelled=makers.unlabelled(job.unlabelled),
        training_batches=makers.training("refresh", ahead=False).batch,
    )
    cases = development.split.validation

    def score() -> Validation:
        return validate(method, development, cases, fabric, overlap=settings.overlap, multiple_of=multiple)

    def ask_oracle() -> float:
        assert job.oracle is not None
        found = job.oracle(freeze(method, development.preprocessing, config)) if fabric.is_global_zero else 0.0
        return float(fabric.broadcast(found))

    batches = makers.training("train")
    loop = Loop(
        fabric,
        method,
        optimizers,
        context,
        batches,
        settings,
        seed=seed,
        folder=job.folder,
        identity=_identity(job, config, fabric.world_size),
        validate=score if cases else None,
        oracle=ask_oracle if job.oracle is not None else None,
        progress=job.progress,
    )
    try:
        state = loop.run()
    finally:
        batches.close()
    notes = list(loop.notes)
    if not cases:
        notes.append("there are no validation cases: source-val is the model of the last step")
    models = {"last": job.folder / "model" / "last"}
    for rule in state.best:
        models[rule] = job.folder / "model" / rule
    if fabric.is_global_zero:
        save_model(models["last"], weights(method), config, "last", step=state.step)
        for rule, best in state.best.items():
            data = loop.checkpoints.read(best.file or "")
            assert data is not None, "the weights that a checkpoint points to are read before it is used"
            save_model(models[rule], data, config, rule, step=best.step, score=best.score)
    fabric.barrier()
    best_step = state.best["source-val"].step if "source-val" in state.best else None
    return Trained(models, state.step, best_step, tuple(state.scores), tuple(notes))


def _build(job: _Job) -> tuple[dict[str, Any], Method]:
    development = job.development
    task = tasks.create(development.task, development.dims, tuple(development.classes))
    preprocessing = development.preprocessing
    spacing = preprocessing.spacing or getattr(development.fingerprint, "spacing", None)
    config = describe(
        job.method,
        job.options,
        job.settings.network or "",
        job.settings.network_options,
        task,
        len(development.sites),
        preprocessing,
        spacing,
    ) | {"overlap": job.settings.overlap}
    patch, multiple = preprocessing.patch_size, multiple_of(config)
    if patch is not None and any(n % m for n, m in zip(patch, multiple, strict=True)):
        raise SettingsError(
            f"patch_size={list(patch)} does not fit network {config['network']}; each must be a multiple of "
            f"{list(multiple)}"
        )
    method = build(config, job.seed)
    return config | {"options": method.saved_options()}, method


def _identity(job: _Job, config: Mapping[str, Any], world: int) -> dict[str, Any]:
    """All that a checkpoint must share with the training that goes on from it, as plain values."""
    settings = job.settings.model_dump(mode="json", exclude=set(NOT_PART_OF_THE_RESULT))
    options = identifying(config["options"], methods.card(job.method).later)
    found = {
        **identifying(settings, job.settings.LATER),
        "seed": job.seed,
        "devices": world,
        "oracle": job.oracle is not None,
        "data": job.development.sha256[:16],
        **{key: value for key, value in config.items() if key not in ("versions", "format")},
        "options": options,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain
