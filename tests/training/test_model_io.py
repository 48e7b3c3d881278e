from __future__ import annotations

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from fake_development import SMALL, FakeDevelopment

from elsewhere.errors import RunError
from elsewhere.training import Settings, load_model, train
from elsewhere.training.optimisation import factory, share


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings.make({**SMALL, "steps": 1})
    return train(FakeDevelopment(), "erm", settings, seed=0, folder=tmp_path_factory.mktemp("run")).models["last"]


def test_a_loaded_model_is_frozen_and_knows_what_it_needs(saved: Path) -> None:
    model = load_model(saved)
    assert not any(module.training for module in model.train().modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (model.task.kind, model.task.classes) == ("segmentation", ("background", "blob"))
    assert (model.patch_size, model.multiple_of) == ((16, 16), (2, 2))
    assert model.preprocessing == FakeDevelopment().preprocessing
    assert sorted(path.name for path in saved.iterdir()) == ["config.yaml", "model.safetensors"]


def changed(saved: Path, folder: Path, **changes: object) -> Path:
    folder.mkdir()
    config = yaml.safe_load((saved / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
    (folder / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    return folder


def test_what_is_not_a_model_is_said(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no config.yaml"):
        load_model(tmp_path)
    with pytest.raises(RunError, match="cannot be read"):
        load_model(changed(saved, tmp_path / "wider", network_options={"channels": [8, 16]}))
    fewer = changed(saved, tmp_path / "fewer")
    state = safetensors.torch.load_file(fewer / "model.safetensors")
    safetensors.torch.save_file(dict(list(state.items())[1:]), fewer / "model.safetensors")
    with pytest.raises(RunError, match=r"model.safetensors does not belong to config.yaml; it differs in 'network"):
        load_model(fewer)
    with pytest.raises(RunError, match="cannot be read"):
        load_model(changed(saved, tmp_path / "odd", preprocessing={}))
    broken = changed(saved, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(RunError, match="cannot be read"):
        load_model(broken)


def test_nothing_in_the_folder_is_run(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, tmp_path / "code")
    mark = tmp_path / "ran"
    (folder / "config.yaml").write_text(f"!!python/object/apply:pathlib.Path.touch [{mark}]")
    with pytest.raises(RunError, match="cannot be read"):
        load_model(folder)
    assert not mark.exists()


def test_learning_rate_warms_up_and_falls_as_half_a_cosine() -> None:
    rates = [share(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert share(0, 1, 0.05) == 1


def test_a_method_may_change_one_optimiser() -> None:
    make = factory(Settings())
    weight = torch.nn.Parameter(torch.zeros(1))
    assert make([weight]).param_groups[0]["lr"] == 1e-3
    sgd = make([weight], optimizer="sgd", learning_rate=0.5)
    assert (type(sgd).__name__, sgd.param_groups[0]["lr"]) == ("SGD", 0.5)
