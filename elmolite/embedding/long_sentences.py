"""Sentences that are too long for one run: window by window, in memory that does not grow with their length.

Shapes: T tokens, U distinct words of a window, L layers, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from elmolite.embedding.batching import BEGIN_MARK, END_MARK
from elmolite.embedding.layer_choice import LayerChoice, choose
from elmolite.nn.bilm import BiLM

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
    state = bilm.zero_state(1)
    for begin in range(0, len(tokens), window):
        end = min(begin + window, len(tokens))
        places = slice(begin, end), slice(len(tokens) - end, len(tokens) - begin)
        words, ids = encode([token for place in places for token in tokens[place]])
        ahead, back = ids[: end - begin], ids[end - begin :].flip(0)
        if begin == 0:
            ahead, back = F.pad(ahead, (1, 0), value=BEGIN_MARK), F.pad(back, (1, 0), value=END_MARK)
        *layers, state = bilm.run(words, ahead, back, [1] * len(ahead), state)
        ahead, back = (choose(torch.stack(each)[:, begin - end :], choice) for each in layers)
        result[..., places[0], :size] = ahead
        result[..., places[1], size:] = back.flip(-2)
    return result
