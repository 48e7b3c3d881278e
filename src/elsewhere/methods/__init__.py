"""The ways to train for sites never seen: one file a method, one registry, one card each."""

from elsewhere.methods.base import Batch, Card, Context, Method, OptimizerFactory
from elsewhere.methods.registry import card, create, get, names, register

__all__ = [
    "Batch",
    "Card",
    "Context",
    "Method",
    "OptimizerFactory",
    "card",
    "create",
    "get",
    "names",
    "register",
]
