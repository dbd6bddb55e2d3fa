"""Fine-tuning tasks on the layers of a language model: classification, tagging, sentence pairs."""
