"""The model: character CNN, LSTM, biLM, softmax, scalar mix. Imports nothing else of the package but errors."""
