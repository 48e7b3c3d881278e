"""The ways to train for sites never seen: one file a method, one registry, one card each."""

from elsewhere.methods.base import Batch, Card, Context, Method, OptimizerFactory
from elsewhere.methods.registry import by_content, card, create, get, imports, names, register

__all__ = [
    "Batch",
    "Card",
    "Context",
    "Method",
    "OptimizerFactory",
    "by_content",
    "card",
    "create",
    "get",
    "imports",
    "names",
    "register",
]
