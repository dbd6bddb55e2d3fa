"""Labelled examples: tables, CoNLL files and Hugging Face datasets."""
