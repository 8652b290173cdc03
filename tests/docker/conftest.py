"""Fixtures that need an engine."""

from tests.private import authority, private

__all__ = ["authority", "private"]
