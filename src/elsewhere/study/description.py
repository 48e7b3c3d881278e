"""A study in words, and as the `study.yaml` that fixes what was inferred."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from elsewhere.study.inference import patients_at_several_sites
from elsewhere.study.study import Study


def describe(study: Study) -> list[str]:
    """Lines to print: what the study is, and which of it was inferred."""
    inferred = set(study.inferred)

    def origin(key: str) -> str:
        return " (inferred)" if key in inferred else ""

    patients = {case.patient for case in study.cases}
    lines = [
        f"study {study.name}: {len(study.cases)} cases, {len(patients)} patients, {len(study.sites)} sites "
        f"({', '.join(study.sites[:12])}{', ...' if len(study.sites) > 12 else ''})",
        f"task: {study.task}{origin('task')}, {study.dims}D{origin('dims')}, "
        f"input {'channel' if len(study.channels) == 1 else 'channels'} {', '.join(study.channels)}",
        f"classes: {', '.join(_classes_with_values(study))}{origin('classes')}",
    ]
    if study.config.mask_place == "voxels":
        lines.append("masks: taken voxel by voxel, whatever their headers say of their place (mask_place: voxels)")
    if study.config.roles is not None:
        roles = study.config.roles
        lines.append(f"roles: train {roles.train}, validation {roles.validation}, test {roles.test}")
    shared = patients_at_several_sites(study.cases)
    if shared:
        lines.append(f"{len(shared)} of the patients appear at more than one site, such as '{min(shared)}'")
    if "classes" in inferred:
        lines.append("to fix what was inferred, write it into study.yaml (elsewhere study show --yaml)")
    return lines


def study_yaml(study: Study) -> str:
    """The text of a `study.yaml` that declares what the study is, whether it was declared or inferred."""
    classes: object = list(study.classes)
    if study.task == "segmentation":
        values: dict[str, list[int]] = {name: [] for name in study.classes}
        for value, index in sorted(study.label_values.items()):
            values[study.classes[index]].append(value)
        classes = {name: found[0] if len(found) == 1 else found for name, found in values.items()}
    given = study.config.model_dump(exclude_none=True, exclude_defaults=True)
    content = {"name": study.name, "task": study.task, "classes": classes}
    content |= {key: value for key, value in given.items() if key not in content}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _classes_with_values(study: Study) -> list[str]:
    if study.task != "segmentation":
        return list(study.classes)
    values: Mapping[int, list[str]] = {index: [] for index in range(len(study.classes))}
    for value, index in sorted(study.label_values.items()):
        values[index].append(str(value))
    return [f"{name} = {'+'.join(values[index])}" for index, name in enumerate(study.classes)]
