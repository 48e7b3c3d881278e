"""What is trained: MONAI's networks in one registry."""

from elsewhere.networks.registry import Entry, Shape, build, get, multiple_of, names, register, resolve

__all__ = ["Entry", "Shape", "build", "get", "multiple_of", "names", "register", "resolve"]
