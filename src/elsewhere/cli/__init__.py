"""The command line; `main` is its entry point."""

from elsewhere.cli.app import app, main, spread_values

__all__ = ["app", "main", "spread_values"]
