"""What is trained: MONAI's networks in one registry."""

from elsewhere.networks.import_path import is_import_path
from elsewhere.networks.registry import (
    Entry,
    Shape,
    build,
    get,
    multiple_of,
    names,
    register,
    resolve,
    trust,
)

__all__ = [
    "Entry",
    "Shape",
    "build",
    "get",
    "is_import_path",
    "multiple_of",
    "names",
    "register",
    "resolve",
    "trust",
]
