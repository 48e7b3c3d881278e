"""Runs that are finished keep their name: identities as they were, and keys that came later."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny

from elsewhere import methods
from elsewhere.benchmark.content import study_digest
from elsewhere.benchmark.planning import plan
from elsewhere.identity import identifying
from elsewhere.methods import registry
from elsewhere.study.config import StudyConfig
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.study.study import Study, open_study
from elsewhere.training import Settings
from elsewhere.training.pretrain.settings import PretrainSettings

OTHER = {
    "steps": 5,
    "batch_size": 3,
    "network_options": {"channels": [4, 8], "num_res_units": 0},
    "channels_last": True,
}

RECORDED: dict[str, tuple[str, dict[str, Any], str]] = {
    "erm": ("erm", {}, "dce4717f88e49fca842a7d55a56ce70d7826540a95b5e824b7c87e61bdc69218"),
    "oracle": (
        "erm",
        {"selection": ["oracle"]},
        "530ba256e8ab662a5cea70b3ca14ae9f10cfce4c853406133ac42ac65dbde9a4",
    ),
    "few": ("erm", {"patients": 3}, "657ff9776ad82f2e5c45f79155c4d3ae0745a2cc64d90f63def1d8a55700093f"),
    "other settings": (
        "erm",
        {"settings": Settings.make(OTHER)},
        "91d6416cd2d26ed674c43047cfd77e6f753fa403272c414d1046af0ae9b61d42",
    ),
    "vrex": ("vrex", {}, "6bee487ba50a16394f70089aacc7f25235aa1e3468b6192360328eb5308e31f3"),
    "dropgen": ("dropgen", {}, "dcf94dc29f9894cb55b28fc986c5f510fac6e22b147627db119e2ebc205872d1"),
    "dropgen, its options": (
        "dropgen",
        {"options": {"dropgen": {"extractor": "mind", "p": 0.1, "p_image": 0.75}}},
        "87747016819c116f1fe940577d777780aa6e634b50ef55838b873a504ca9b23e",
    ),
    "gin, the options that were its defaults": (
        "gin",
        {"options": {"gin": {"consistency": 10.0, "alpha": 1.0, "ipa": False, "ramp": 0.0}}},
        "6789291afbeb4662247a25bb1a4e81410f3ced8b83d16cf92deb927ec4a76f28",
    ),
    "gin, its options": (
        "gin",
        {"options": {"gin": {"consistency": 1.0, "alpha": 0.5, "ipa": True, "ramp": 0.0}}},
        "b4b036a749a2f054de4ba249ded0ac8b4caf45c8d28d1031c3af57ee0e79283a",
    ),
}
"""Method, question and identity as commit 590d811 had it (version 0.1.0)."""

FIRST_KEYS = {
    Settings: "network network_options steps batch_size accumulate learning_rate optimizer momentum weight_decay "
    "warmup sampler clip precision channels_last validate_every patience augmentation flip_axes size spacing intensity "
    "patch_size overlap foreground device devices checkpoint_every log_every loggers",
    StudyConfig: "name task classes site_column spacing size intensity patch_size roles",
    Preprocessing: "dims channels size spacing intensity mean std clip patch_size",
    PretrainSettings: "steps batch_size size shift akin features width downs norm pooling upsampling points "
    "temperature structure place near alike projection given learning_rate weight_decay warmup clip precision compile "
    "device validate_every checkpoint_every log_every validation",
}
"""Keys at commit 590d811: every other one must say at which value it changes nothing."""

FIRST_OPTIONS = {
    "erm": "",
    "vrex": "weight ramp",
    "gin": "consistency alpha ipa",
    "dropgen": "extractor extractor_options weights p drop_image p_image image norm scale",
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(tiny.segmentation(tmp_path / "study", {"A": 4, "B": 4, "C": 4}))


def identity(study: Study, method: str, **changes: Any) -> str:
    question: dict[str, Any] = {
        "methods": [method],
        "seeds": [0],
        "held_out": ["A"],
        "settings": Settings(steps=4),
        "options": {},
        "selection": ["source-val"],
        "reference": False,
        "content": "c",
    }
    (spec,) = plan(study, **{**question, **changes})
    return spec.identity


@pytest.mark.parametrize("name", RECORDED)
def test_identities_are_what_they_were(study: Study, name: str) -> None:
    method, changes, wanted = RECORDED[name]
    assert identity(study, method, **changes) == wanted


def test_a_default_with_another_meaning_is_another_run(study: Study) -> None:
    """GIN's default weight was 10, at which it collapsed."""
    assert identity(study, "gin") not in {wanted for _, _, wanted in RECORDED.values()}


class Names:
    """The content of a file is its name."""

    def of(self, path: Path) -> str:
        return path.name


def test_the_digest_of_a_study_is_what_it_was(study: Study) -> None:
    assert study_digest(study, Names()) == "0f5ace57ffe5341cc6207bd3f44d3a695f126bf3267bcb3e71b0f70ffcfecb75"  # type: ignore[arg-type]


@pytest.mark.parametrize("model", FIRST_KEYS)
def test_every_later_key_says_at_which_value_it_changes_nothing(model: type[Any]) -> None:
    first = set(FIRST_KEYS[model].split())
    assert first <= set(model.model_fields), "a key that is gone orphans every run: keep it, or say so here"
    assert set(model.model_fields) - first == set(model.LATER)


@pytest.mark.parametrize("name", FIRST_OPTIONS)
def test_every_later_option_does(name: str) -> None:
    card = methods.card(name)
    first = set(FIRST_OPTIONS[name].split())
    assert first <= set(card.defaults)
    assert set(card.defaults) - first == set(card.later)


class More(Settings):
    """With a key that came later."""

    LATER: ClassVar[dict[str, Any]] = {"mixing": 0.0}

    mixing: float = 0.0


def test_a_later_setting_counts_where_it_is_not_neutral(study: Study) -> None:
    before = RECORDED["erm"][2]
    assert identity(study, "erm", settings=More(steps=4)) == before
    assert identity(study, "erm", settings=More(steps=4, mixing=0.5)) != before


def test_a_later_option_counts_where_it_is_not_neutral(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    vrex = registry.get("vrex")
    card = dataclasses.replace(vrex.card, defaults={**vrex.card.defaults, "half": 1.0}, later={"half": 0.0})
    monkeypatch.setattr(vrex, "card", card)
    before = RECORDED["vrex"][2]
    assert identity(study, "vrex") != before, "its default is not the neutral value"
    assert identity(study, "vrex", options={"vrex": {"half": 0.0}}) == before


def test_a_later_key_of_a_study_counts_where_it_is_not_neutral(study: Study) -> None:
    class MoreConfig(StudyConfig):
        LATER: ClassVar[dict[str, Any]] = {**StudyConfig.LATER, "view": None}

        view: str | None = None

    before = study_digest(study, Names())  # type: ignore[arg-type]
    neutral, other = (
        dataclasses.replace(study, config=MoreConfig(**study.config.model_dump(), view=view))
        for view in (None, "axial")
    )
    assert study_digest(neutral, Names()) == before != study_digest(other, Names())  # type: ignore[arg-type]


def test_identifying_by_hand() -> None:
    assert identifying({"a": 1, "b": 0, "c": 0}, {"b": 0, "c": 1, "d": 2}) == {"a": 1, "c": 0}
