"""Sentences that are too long for one run: window by window, in memory that does not grow with their length.

Shapes: T tokens, U distinct words of a window, L layers, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from elmolite.bilm import BiLM
from elmolite.layer_choice import LayerChoice, choose
from elmolite.sentence_batches import BEGIN_MARK, END_MARK

Encode = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Gives the vectors of the marks and the distinct words of some tokens, (U, P), and the index of each token, (T)."""


def embed_long(
    bilm: BiLM, tokens: Sequence[str], choice: LayerChoice, window: int, encode: Encode, device: torch.device
) -> Tensor:
    """Return the vectors of a sentence, (L, T, 2 P) for ``"all"`` and (T, 2 P) otherwise, float32.

    The directions do not read each other, so each runs from its own end, with its state carried over windows, and gives
    what one run over all would.

    :param window: tokens that are computed at once.
    :param device: where the vectors are to be: on a GPU they may not find room.
    """
    size = bilm.config.projection_size
    shape = (len(tokens), 2 * size) if choice != "all" else (bilm.config.n_layers + 1, len(tokens), 2 * size)
    result = torch.empty(shape, device=device)
    begins = range(0, len(tokens), window)
    for stack, mark, columns, is_backward in (
        (bilm.forward_stack, BEGIN_MARK, slice(0, size), False),
        (bilm.backward_stack, END_MARK, slice(size, None), True),
    ):
        state = stack.zero_state(1, next(bilm.parameters()))
        for begin in reversed(begins) if is_backward else begins:
            words, ids = encode(tokens[begin : begin + window])
            ids = ids.flip(0) if is_backward else ids
            is_first = begin == (begins[-1] if is_backward else begins[0])
            inputs = words[torch.cat([ids.new_tensor([mark]), ids]) if is_first else ids]
            outputs, state = stack(inputs, [1] * len(inputs), state)
            layers = choose(torch.stack([inputs, *outputs])[:, is_first:], choice)
            result[..., begin : begin + window, columns] = layers.flip(-2) if is_backward else layers
    return result
