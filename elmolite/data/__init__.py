"""Text to batches: reading, tokenization, vocabulary, the corpus on disk, BPTT batches."""
