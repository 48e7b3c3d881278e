"""Medical imaging models that work elsewhere."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elsewhere.deploy.model import Model, Prediction, load

__version__ = "0.1.0"

__all__ = ["Model", "Prediction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`elsewhere.load`, imported when it is first asked for: it brings torch."""
    if name in ("Model", "Prediction", "load"):
        from elsewhere.deploy import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
