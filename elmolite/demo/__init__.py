"""Demonstration: ``elmolite demo``."""
