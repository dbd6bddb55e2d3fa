"""Sentences to contextual vectors."""

BATCH_TOKENS = 4096
"""Default number of tokens, padding included, that are embedded at once.

Defined here because the command line shows it without importing torch.
"""
