"""Whether networks that are built now read pretrained weights, or get them from the state dict of a saved model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WANTED: ContextVar[bool] = ContextVar("pretrained weights are read", default=True)


def wanted() -> bool:
    """Whether a part that comes with pretrained weights reads them when it is built."""
    return _WANTED.get()


@contextmanager
def layout_only() -> Iterator[None]:
    """Within it nothing is read or downloaded: a saved model brings all weights itself."""
    token = _WANTED.set(False)
    try:
        yield
    finally:
        _WANTED.reset(token)
