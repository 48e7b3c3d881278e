"""Errors a person can act on: one sentence that names the file, row or key, what was found and what would be right."""


class ElsewhereError(Exception):
    """Base of all errors that the command line prints as one sentence, without a traceback."""


class StudyError(ElsewhereError):
    """A manifest, an image, a label or a `study.yaml` is not what it should be."""


class SettingsError(ElsewhereError):
    """An option of a method, a network or a run is unknown or out of range."""


class SealError(ElsewhereError):
    """Something tried to read held-out cases without a frozen model, or changed the model while it was evaluated."""


class RunError(ElsewhereError):
    """A run or a benchmark folder cannot go on as asked."""


class ModelError(ElsewhereError):
    """A model's folder is not what it should be, or is not to be trusted."""
