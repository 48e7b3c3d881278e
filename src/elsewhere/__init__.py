"""Medical imaging models that work elsewhere."""

__version__ = "0.1.0"
