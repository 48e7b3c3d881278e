"""`study.yaml`: what is declared about a study; whatever is absent is inferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from elsewhere.errors import StudyError
from elsewhere.wording import did_you_mean

CONFIG_NAME = "study.yaml"

WANTED = {
    "name": "text",
    "site_column": "the name of a column",
    "size": "a positive whole number for each axis, such as [256, 256]",
    "patch_size": "a positive whole number for each axis, such as [256, 256]",
    "spacing": "mm along each axis, such as [1.0, 1.0, 3.0]",
    "roles": "lists of sites under train, validation (may be absent) and test",
}
"""In words, for keys of which pydantic would speak in its own."""

MaskPlace = Literal["header", "voxels"]
Intensity = Literal["auto", "image-zscore", "study-zscore", "ct", "none"]


def _as_text(value: Any) -> Any:
    """Names may look like numbers: a class `0` or a site `12` is a name all the same."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _as_names_or_values(value: Any) -> Any:
    return {_as_text(name): found for name, found in value.items()} if isinstance(value, dict) else value


Name = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
LabelValues = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_as_list), Field(min_length=1)]


class Roles(BaseModel):
    """A fixed protocol: which sites train, validate and test, instead of leaving each one out in turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: Annotated[list[Name], Field(min_length=1)]
    validation: list[Name] = []
    test: Annotated[list[Name], Field(min_length=1)]


class StudyConfig(BaseModel):
    """What `study.yaml` may say. Every key is optional.

    Attributes:
        name: how tables call the study; by default the name of its folder.
        task: what the labels are; inferred from the column `label`.
        classes: classification, the class names in the order of the outputs; segmentation, each name with its value
            or values in the masks, the background first (`{background: 0, tumour: [1, 4]}`); a plain list of names
            means the values 0, 1, 2, ...
        site_column: the column of the manifest that is the site.
        spacing: mm per axis to resample to. size: pixels per axis to resize to; one of the two at most.
        intensity: the rule of normalisation; `auto` decides from the development cases of each fold.
        patch_size: pixels per axis of a training patch.
        roles: a fixed protocol, by site.
        mask_place: "header", a mask lies where its file says, which must be where its image lies; "voxels", its voxels
            are those of the image one by one, whatever its header says (for masks whose header was lost).
    """

    LATER: ClassVar[Mapping[str, Any]] = {"mask_place": "header"}
    """Neutral values of keys that were added after the first runs (`elsewhere.identity`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = None
    task: Literal["segmentation", "classification"] | None = None
    classes: Annotated[list[Name] | dict[str, LabelValues] | None, BeforeValidator(_as_names_or_values)] = None
    site_column: Name | None = None
    spacing: Annotated[list[PositiveFloat], Field(min_length=2, max_length=3)] | None = None
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=3)] | None = None
    intensity: Intensity = "auto"
    patch_size: Annotated[list[PositiveInt], Field(min_length=2, max_length=3)] | None = None
    roles: Roles | None = None
    mask_place: MaskPlace = "header"


class _Loader(yaml.SafeLoader):
    """YAML without its two traps: `no` is a word (a class name), and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key}' is given twice", problem_mark=key_node.start_mark)
            if isinstance(key, str | int | float):
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_config(path: Path) -> StudyConfig:
    """Read `study.yaml`.

    Raises:
        StudyError: the file cannot be read, is not YAML, or has a key or a value that is not allowed; the sentence
            names the key, what was found, and what would be right.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" line {error.problem_mark.line + 1}"
        raise StudyError(f"{path}{line}: is not valid YAML ({error.problem or error.context})") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: is not valid YAML ({error})") from error
    return parse_config({} if found is None else found, where=str(path))


def parse_config(found: Any, where: str = CONFIG_NAME) -> StudyConfig:
    """Check what `study.yaml` holds; `where` names the source in errors.

    Raises:
        StudyError: a key or value is not allowed.
    """
    if not isinstance(found, dict):
        raise StudyError(f"{where}: holds {_short(found)}, wanted keys with values such as 'task: segmentation'")
    try:
        config = StudyConfig.model_validate(found)
    except ValidationError as error:
        raise StudyError(_sentence(where, error)) from error
    _check_consistency(config, where)
    return config


def _sentence(where: str, error: ValidationError) -> str:
    """The first thing pydantic complains of, in words."""
    first = error.errors()[0]
    if first["loc"][0] == "classes":  # a list or a mapping: the branch that got furthest is the one that was meant
        first = max(error.errors(), key=lambda one: len(one["loc"]) if one["loc"][0] == "classes" else 0)
    place = [str(part) for part in first["loc"] if isinstance(part, int) or not _is_branch(part)]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = list(Roles.model_fields if place[0] == "roles" else StudyConfig.model_fields)
        return f"{where}: key '{key}' is unknown{did_you_mean(place[-1], known)}; known keys: {', '.join(known)}"
    if first["type"] == "missing":
        return f"{where}: key '{key}' is missing; add it"
    found = first["input"]
    if first["type"] == "literal_error":
        wanted = first["ctx"]["expected"]
        options = [option.strip(" '") for option in wanted.replace(" or ", ",").split(",")]
        hint = did_you_mean(found, options) if isinstance(found, str) else ""
        return f"{where}: key '{key}' is {_short(found)}{hint}, wanted {wanted}"
    if place[0] == "classes" and len(place) == 1:
        return (
            f"{where}: key 'classes' is {_short(found)}, wanted a list of names (classification) or a name with its "
            "value in the masks for each class (segmentation), the background first"
        )
    if place[0] in WANTED and len(place) == 1 and first["type"] != "missing":
        return f"{where}: key '{key}' is {_short(found)}, wanted {WANTED[place[0]]}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{where}: key '{key}' is {_short(found)}: {message}"


def _is_branch(part: str) -> bool:
    """Whether a part of pydantic's location names a branch of a union rather than a key of the file."""
    return part.startswith(("list[", "dict[", "function-", "constrained-", "nullable"))


def _check_consistency(config: StudyConfig, where: str) -> None:
    if config.spacing is not None and config.size is not None:
        raise StudyError(f"{where}: keys 'spacing' and 'size' are both given; keep one of them")
    if isinstance(config.classes, list):
        if len(config.classes) < 2:
            raise StudyError(f"{where}: key 'classes' names {len(config.classes)}, wanted at least 2 classes")
        _no_repeats(config.classes, f"{where}: key 'classes' names")
    elif config.classes is not None:
        if config.task == "classification":
            raise StudyError(f"{where}: key 'classes' gives values, but the task is classification; wanted a list")
        if len(config.classes) < 2:
            raise StudyError(f"{where}: key 'classes' needs the background and at least one class more")
        values = [str(value) for values in config.classes.values() for value in values]
        _no_repeats(values, f"{where}: key 'classes' gives the value")
    if config.roles is not None:
        every = [*config.roles.train, *config.roles.validation, *config.roles.test]
        _no_repeats(every, f"{where}: key 'roles' names the site")


def _no_repeats(names: Sequence[str], what: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise StudyError(f"{what} '{name}' twice; name it once")


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else text[:57] + "..."
