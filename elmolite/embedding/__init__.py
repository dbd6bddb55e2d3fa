"""Sentences to contextual vectors."""
