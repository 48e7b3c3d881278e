from __future__ import annotations

import pytest

from elsewhere.errors import SettingsError
from elsewhere.training.settings import Settings


def test_pairs_are_read_as_yaml_and_typed() -> None:
    settings, options = Settings.parse(
        ["steps=300", "learning_rate=1e-3", "patch_size=[64, 96]", "network_options.channels=[8,16]", "vrex.weight=1e2"]
    )
    assert (settings.steps, settings.learning_rate, settings.patch_size) == (300, 1e-3, [64, 96])
    assert settings.network_options == {"channels": [8, 16]}
    assert options == {"vrex": {"weight": 100.0}}


def test_pairs_override_the_base() -> None:
    settings, _ = Settings.parse(["steps=3"], {"steps": 2, "batch_size": 7})
    assert (settings.steps, settings.batch_size) == (3, 7)


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("stepps=3", "unknown setting 'stepps'; did you mean steps"),
        ("zzz=3", "unknown setting 'zzz'; there are: accumulate"),
        ("steps=many", "setting steps: found 'many'; it should be a valid integer"),
        ("steps=0", "setting steps: found 0; it should be greater than or equal to 1"),
        ("optimizer=adam", "setting optimizer: found 'adam'; it should be 'adamw' or 'sgd'"),
        ("steps", "'steps' is not a setting; write key=value"),
        ("patch_size=[1", "the value cannot be read"),
        ("vrexx.weight=1", "vrexx.weight: unknown method 'vrexx'; did you mean vrex"),
        ("vrex.wait=1", "unknown option vrex.wait; did you mean weight"),
        ("vrex.weight=heavy", "option vrex.weight: found 'heavy', wanted float"),
        ("gin.ipa=1", "option gin.ipa: found 1, wanted bool"),
    ],
)
def test_errors_say_what_was_found_and_what_would_be_right(pair: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.parse([pair])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_open_is_decided_by_task_and_dimension() -> None:
    segmentation, classification = Settings().resolved("segmentation", 2), Settings().resolved("classification", 2)
    assert (segmentation.network, classification.network) == ("unet", "densenet121")
    assert Settings().resolved("segmentation", 3).batch_size == 2
    assert segmentation.validate_every == segmentation.steps // 20
    assert Settings.make({"network": "dynunet"}).resolved("segmentation", 2).network == "dynunet"


def test_settings_survive_being_written_down() -> None:
    settings = Settings.make({"size": [32, 32], "loggers": ["tensorboard"]})
    assert Settings.make(settings.model_dump(mode="json")) == settings


def test_the_default_batch_can_be_shared_by_any_number_of_processes() -> None:
    found = [Settings(devices=devices, accumulate=2).resolved("segmentation", 2).batch_size for devices in (1, 2, 3, 6)]
    assert found == [8, 8, 9, 12]
