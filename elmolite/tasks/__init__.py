"""Heads: words as vectors -> scores of labels; and how scores are trained and read."""
