"""Labelled examples: what one is, and reading them from files and datasets of the usual formats."""
