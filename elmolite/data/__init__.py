"""Text to batches: reading, tokenization, vocabulary, the corpus on disk, BPTT batches."""

SUMMARY_FILE = "corpus.json"
"""Manifest of a corpus; defined here because names of models are resolved without importing numpy."""
