"""What a benchmark is asked: a study, opened once, and the runs that answer for each choice of settings and rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsewhere.benchmark.content import study_digest
from elsewhere.benchmark.planning import plan
from elsewhere.benchmark.variants import read_methods
from elsewhere.errors import SettingsError
from elsewhere.study.cache import Cache
from elsewhere.study.hashes import FileHashes
from elsewhere.study.study import open_study
from elsewhere.training.log import require_loggers
from elsewhere.training.settings import Settings
from elsewhere.training.train import require_machine

if TYPE_CHECKING:
    from elsewhere.benchmark.spec import RunSpec
    from elsewhere.study.study import Study

Options = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """A question; the attributes are the arguments of `run_benchmark` of these names."""

    path: Path
    methods: Sequence[str]
    seeds: int | Sequence[int]
    held_out: Sequence[str] | None
    changes: Sequence[str]
    patients: int | None
    site_column: str | None
    allow_outside: bool
    cache: Path | None
    trust: bool
    here: bool
    """The runs are done on this machine; the machines of a cluster may have what it lacks."""

    def settings(self, steps: int | None) -> tuple[Settings, Options]:
        """Settings, and options by method and label.

        Raises:
            SettingsError: they make no sense, or this machine lacks what they need.
        """
        base = {} if steps is None else {"steps": steps}
        settings, options = Settings.parse(self.changes, base, read_methods(self.methods))
        if self.here:
            require_machine(settings)
            require_loggers(settings.loggers)
        return settings, options

    @cached_property
    def numbers(self) -> list[int]:
        """The seeds.

        Raises:
            SettingsError: there are none.
        """
        numbers = list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)
        if not numbers:
            raise SettingsError("--seeds: found 0, wanted at least 1")
        return numbers

    @cached_property
    def study(self) -> Study:
        """Opened."""
        return open_study(self.path, site_column=self.site_column, allow_outside=self.allow_outside, cache=self.cache)

    @cached_property
    def content(self) -> str:
        """Hash of what the study holds."""
        return study_digest(self.study, FileHashes(Cache(self.cache).folder / "hashes.tsv"))

    def plan(
        self,
        methods: Sequence[str],
        settings: Settings,
        options: Mapping[str, Mapping[str, Any]],
        rules: Sequence[str],
        reference: bool = False,
    ) -> list[RunSpec]:
        """All runs; see `planning.plan` for what is raised."""
        return plan(
            self.study,
            methods,
            self.numbers,
            self.held_out,
            settings,
            options,
            rules,
            reference,
            path=self.path,
            site_column=self.site_column,
            allow_outside=self.allow_outside,
            cache=self.cache,
            content=self.content,
            patients=self.patients,
            trust=self.trust,
        )
