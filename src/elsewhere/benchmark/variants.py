"""Methods of a benchmark by the names that its tables show: `erm`, or `LABEL=METHOD` for a method with its own options.

A label lets one method run several times in a benchmark, with other options each time: `features=dropgen` with
`--set features.image=false`. An option `METHOD.KEY` is of all that are trained with that method, `LABEL.KEY` of one of
them, and wins. A label has no part in a run's identity: what is trained is the method with its options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elsewhere.benchmark.spec import REFERENCE
from elsewhere.errors import SettingsError
from elsewhere.methods import by_content, card, names

TAKEN = (REFERENCE, "network_options")
"""No labels: the one is a row of the tables already, the other the first word of settings."""

NOT_IN_A_LABEL = {"/": "a slash", "\\": "a backslash", ",": "a comma", "=": "an equals sign", ".": "a dot"}
"""They separate methods, folders, or a label from its option."""


def read_methods(given: Sequence[str]) -> dict[str, str]:
    """The registered method of each name in the tables, in the order of the question.

    Args:
        given: names of the registry, or "LABEL=METHOD".

    Raises:
        SettingsError: no method, an unknown one, a name given twice, or a label that cannot be one.
    """
    if not given:
        raise SettingsError("no method was named; try --methods erm")
    found: dict[str, str] = {}
    for text in given:
        label, equals, method = (part.strip() for part in text.rpartition("="))
        label = label if equals else method
        card(method)  # says which there are
        if label != method:
            _check_label(text, label)
        if label in found:
            raise SettingsError(f"method {label!r} is named twice in --methods")
        found[label] = method
    return found


def options_of(label: str, method: str, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All options of a method under its label: the card's, then those of the method, then those of the label."""
    return {**card(method).defaults, **options.get(method, {}), **options.get(label, {})}


def require_used(methods: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Refuse options of what is not run.

    Raises:
        SettingsError: names the first of them.
    """
    idle = sorted(set(options) - {*methods, *methods.values()})
    if idle:
        raise SettingsError(
            f"options were given for method {idle[0]!r}, which is not run; the methods are: {', '.join(methods)}"
        )


def require_different(methods: Mapping[str, str], options: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse two labels of the same training: they would be the same run twice.

    Raises:
        SettingsError: names both.
    """
    seen: list[tuple[str, str, dict[str, Any]]] = []
    for label, method in methods.items():
        own = by_content(method, options_of(label, method, options))  # as in a run's identity
        for other, its_method, its_own in seen:
            if (method, own) == (its_method, its_own):
                raise SettingsError(
                    f"{other!r} and {label!r} in --methods are the same training, {method} with the same options; give "
                    f"one of them another option (--set {label}.OPTION=VALUE), or leave it away"
                )
        seen.append((label, method, own))


def _check_label(text: str, label: str) -> None:
    wanted = "wanted LABEL=METHOD, for example features=dropgen"
    if not label:
        raise SettingsError(f"--methods {text!r}: there is no label; {wanted}")
    if not label.isprintable():
        raise SettingsError(f"--methods {text!r}: the label {label!r} has a character that cannot be shown; {wanted}")
    for sign, words in NOT_IN_A_LABEL.items():
        if sign in label:
            raise SettingsError(f"--methods {text!r}: the label {label!r} has {words} in it; {wanted}")
    if label in TAKEN or label in names():
        whose = "a name that is taken" if label in TAKEN else "the name of another method"
        raise SettingsError(f"--methods {text!r}: the label {label!r} is {whose}; {wanted}")
