"""What is asked of a final model: checked before any image is read, and compared with what a folder was made for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsewhere import methods
from elsewhere.deploy.found import found_elsewhere
from elsewhere.errors import SettingsError
from elsewhere.identity import identifying
from elsewhere.methods.own_code import OwnCode
from elsewhere.study.cache import Cache
from elsewhere.study.study import open_study
from elsewhere.training import Settings
from elsewhere.training.log import require_loggers
from elsewhere.training.rehearsal import rehearse
from elsewhere.training.train import NOT_PART_OF_THE_RESULT, require_machine

if TYPE_CHECKING:
    from elsewhere.study.seal import Development
    from elsewhere.study.study import Study

SELECTIONS = ("source-val", "last")


@dataclass(frozen=True)
class Question:
    """A method to be trained on all sites of a study; made by `ask`.

    Attributes:
        study: opened.
        cache: of decoded cases.
        method: its name.
        options: of the method, all of them.
        settings: of the training, resolved.
        seed: of split, weights, order and augmentation.
        selection: of SELECTIONS.
        found: what a benchmark found elsewhere (`found_elsewhere`), or None.
        trust: a network or an extractor may be an import path.
        command: for the card.
        patients: at most that many train, over all sites together; None: all.
    """

    study: Study
    cache: Cache
    method: str
    options: Mapping[str, Any]
    settings: Settings
    seed: int
    selection: str
    found: dict[str, Any] | None
    trust: bool
    command: str
    patients: int | None = None

    def plain(self, development: Development) -> dict[str, Any]:
        """All that decides which model it is; a benchmark does not."""
        found = {
            "study": self.study.name,
            "method": self.method,
            "options": methods.by_content(self.method, self.options),
            "seed": self.seed,
            "selection": self.selection,
            "settings": identifying(
                self.settings.model_dump(mode="json", exclude=set(NOT_PART_OF_THE_RESULT)), self.settings.LATER
            ),
            "data": development.sha256,
            **({} if self.patients is None else {"patients": self.patients}),
        }
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain


def ask(
    study: Path | str,
    method: str,
    *,
    steps: int | None = None,
    seed: int = 0,
    changes: Sequence[str] = (),
    selection: str = "source-val",
    benchmark: Path | str | None = None,
    site_column: str | None = None,
    allow_outside: bool = False,
    trust: bool = False,
    cache: Path | str | None = None,
    patients: int | None = None,
    command: str = "",
) -> Question:
    """Check all that can be checked without reading images.

    Args:
        study: folder or manifest.
        method: name in the registry.
        steps: of the training.
        seed: of split, weights, order and augmentation.
        changes: "KEY=VALUE" settings and "METHOD.KEY=VALUE" options.
        selection: "source-val" (the best on the validation patients) or "last".
        benchmark: folder of a benchmark of this study and method, for the card.
        site_column: the column that is the site.
        allow_outside: take paths that leave the study's folder.
        trust: the network may be an import path, `package.module:Class`, whose code is run.
        cache: folder of decoded cases; None for the user's.
        patients: at most that many train, over all sites together; None for all.
        command: for the card.

    Raises:
        SettingsError: an unknown method, setting, option or selection; a network that is not for this task, or an
            import path without `trust`; a method that needs a target site; fewer than one patient.
        StudyError: no sound study.
        RunError: no benchmark, or one of something else.
    """
    card = methods.card(method)
    settings, options = Settings.parse(changes, {} if steps is None else {"steps": steps})
    require_machine(settings)
    require_loggers(settings.loggers)
    if selection not in SELECTIONS:
        raise SettingsError(f"--selection: found {selection!r}, wanted one of: {', '.join(SELECTIONS)}")
    if patients is not None and patients < 1:
        raise SettingsError(f"--patients: found {patients}, wanted at least 1 training patient")
    idle = sorted(set(options) - {method})
    if idle:
        raise SettingsError(f"options were given for method {idle[0]!r}, but the method is {method}")
    if card.unlabelled_target:
        raise SettingsError(
            f"method {method} looks at unlabelled images of the site that it will be used at, and with all sites in "
            "training there is none; choose another method"
        )
    folder = None if cache is None else Path(cache)
    opened = open_study(study, site_column=site_column, allow_outside=allow_outside, cache=folder)
    settings = settings.resolved(opened.task, opened.dims)
    own = {**card.defaults, **options.get(method, {})}
    methods.get(method).check(own)
    OwnCode.of(settings.network, method, own).allow(trust)
    rehearse(settings, opened, [(method, own)])
    found = None
    if benchmark is not None:
        plain = settings.model_dump(mode="json")
        found = found_elsewhere(Path(benchmark), opened, method, own, plain, selection, patients=patients)
    return Question(opened, Cache(folder), method, own, settings, seed, selection, found, trust, command, patients)


def difference(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """The first thing in which two questions (`Question.plain`) differ, in words; None where there is none."""
    there, here = (_flat(question) for question in (found, asked))
    for key in ("study", "method", *sorted({*there, *here} - {"data"})):
        if there.get(key) != here.get(key):
            return f"{key}={there.get(key)}, now {here.get(key)}"
    same = there.get("data") == here.get("data")
    return None if same else "its images, labels or the split of its patients were not those of now"


def _flat(question: Mapping[str, Any]) -> dict[str, Any]:
    own = {f"{question.get('method')}.{key}": value for key, value in question.get("options", {}).items()}
    rest = {key: value for key, value in question.items() if key not in ("options", "settings")}
    return {**question.get("settings", {}), **own, **rest}
