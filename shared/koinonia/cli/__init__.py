"""The ``koinonia`` command: the platform as a whole, its parts, and what an operator does to them."""

from koinonia.cli.main import main

__all__ = ["main"]
