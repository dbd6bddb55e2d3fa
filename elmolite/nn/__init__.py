"""The model: token encoders, recurrent layers, softmaxes and scalar mix, in torch alone."""

MAX_CHARACTERS = 50
"""Ids of a token that the character CNN reads, begin and end mark included (``max_characters_per_token`` of bilm-tf).

Defined here because text is prepared without importing torch.
"""
