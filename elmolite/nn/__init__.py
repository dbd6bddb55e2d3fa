"""The model: token encoders, recurrent layers, softmaxes and scalar mix, in torch alone."""

MAX_CHARACTERS = 50
"""Ids of a token that the character CNN reads, begin and end mark included (``max_characters_per_token`` of bilm-tf).

Defined here because text is prepared without importing torch.
"""
N_BYTE_IDS = 262
"""Number of ids of a model that reads bytes, with the 0 of a padded token (``n_characters`` of bilm-tf)."""
PADDING = 261
"""Id that pads the characters of a token."""
