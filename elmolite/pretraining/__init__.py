"""Training of the bidirectional language model."""
