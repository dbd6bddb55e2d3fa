"""Batching: token ids, packed sequences, batches by length, windows of long sentences, carried states, layer selection.

Shapes: B sentences, T tokens, U distinct words, C characters, N positions of packed sequences, L layers, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from elmolite.data.indexers import TokenIndexer
from elmolite.nn.bilm import BiLM, BiLMState
from elmolite.nn.lstm.reference import State

BEGIN_SENTENCE, END_SENTENCE = 0, 1
"""Indices of ``<S>`` and ``</S>`` in :attr:`TokenIds.unique_words`."""
BATCH_TOKENS, GPU_BATCH_TOKENS = 4096, 16_384
"""Default number of tokens, padding included, that are embedded at once: on an H200 16,384 are 2.6 times as fast."""
LayerSelection = Literal["all", "top", "average"] | int
"""All layers, the top one, the average of all, or the index of one; 0 is the token layer."""


def select_layers(layers: Tensor | Sequence[Tensor], selection: LayerSelection) -> Tensor:
    """Select from (L, ...), or L times (...): all of it for ``"all"``, otherwise (...)."""
    if selection in ("all", "average"):
        stacked = layers if isinstance(layers, Tensor) else torch.stack(list(layers))
        return stacked if selection == "all" else stacked.mean(dim=0)
    return layers[-1 if selection == "top" else int(selection)]


def n_recurrent_layers(selection: LayerSelection) -> int | None:
    """Return the number of recurrent layers that a selection depends on; ``None`` for all."""
    return int(selection) if isinstance(selection, Integral) else None


class TokenIds(NamedTuple):
    """Sentences as indices into their distinct words; :meth:`ELMo.to_ids` makes and :meth:`ELMo.forward` takes it."""

    unique_words: Tensor  # (U, C): <S>, </S> and the distinct words as rows of ids
    tokens: Tensor  # (B, T): index into unique_words; 0 is padding
    lengths: Tensor  # (B): tokens of each sentence


def encode(tokenized: Sequence[Sequence[str]], indexer: TokenIndexer) -> TokenIds:
    """Encode tokenized sentences, each distinct word once."""
    index: dict[str, int] = {}
    lengths = [len(sentence) for sentence in tokenized]
    tokens = np.zeros((len(tokenized), max(lengths, default=0)), np.int64)
    for row, sentence in zip(tokens, tokenized, strict=True):
        row[: len(sentence)] = [index.setdefault(token, len(index) + 2) for token in sentence]
    unique_words = np.concatenate([indexer.sentence_marks(), indexer.rows(list(index))])
    return TokenIds(
        torch.from_numpy(indexer.trim(unique_words)), torch.from_numpy(tokens), torch.tensor(lengths, dtype=torch.int64)
    )


class Packed(NamedTuple):
    """Sentences with their marks as packed sequences, and the positions of the vectors of their tokens."""

    forward_inputs: Tensor  # (N)
    backward_inputs: Tensor  # (N)
    batch_sizes: list[int]
    forward_positions: Tensor  # (B, T): index into the N positions
    backward_positions: Tensor  # (B, T)
    mask: Tensor  # (B, T)
    order: Tensor  # (B): index of the sentence in each row; rows are sorted by length, longest first

    def to(self, device: torch.device) -> Packed:
        """Copy the tensors to a device."""
        moved: dict[str, Any] = {
            name: part.to(device) for name, part in self._asdict().items() if name != "batch_sizes"
        }
        return self._replace(**moved)

    def unpack(self, forward: Tensor, backward: Tensor) -> Tensor:
        """Return packed outputs (N, P) of the directions side by side, (B, T, 2 P), with any values at padding."""
        return torch.cat(
            [F.embedding(self.forward_positions, forward), F.embedding(self.backward_positions, backward)], dim=-1
        )


def pack(ids: TokenIds, *, reads_both_marks: bool = False) -> Packed:
    """Pack sentences, longest first: ``<S> w1 .. wn`` forward and ``</S> wn .. w1`` backward.

    :param reads_both_marks: append ``</S>`` forward and ``<S>`` backward, which affect only the carried state.
    """
    ids = TokenIds(*(part.cpu() for part in ids))  # the lengths become shapes
    n_tokens = ids.tokens.shape[1]
    order = ids.lengths.argsort(descending=True, stable=True)
    rank = order.argsort()

    n_marks = 1 + reads_both_marks
    step = torch.arange(n_tokens + n_marks)
    index = ids.lengths[order, None] - step  # (B, steps): index of the backward direction's token
    forward = F.pad(ids.tokens[order], (1, n_marks - 1), value=BEGIN_SENTENCE)
    backward = ids.tokens[order].gather(1, index.clamp(0, max(0, n_tokens - 1))) if n_tokens else forward
    backward = torch.where(step == 0, END_SENTENCE, backward)
    forward, backward = (
        torch.where(index == -1, mark, part) for mark, part in ((END_SENTENCE, forward), (BEGIN_SENTENCE, backward))
    )
    runs = (index > -n_marks).T  # (steps, B)
    batch_sizes = runs.sum(dim=1)
    offsets = batch_sizes.cumsum(0) - batch_sizes

    token = torch.arange(n_tokens)
    mask = token < ids.lengths[:, None]
    backward_step = (ids.lengths[:, None] - token).clamp(min=0)
    return Packed(
        forward.T[runs],
        backward.T[runs],
        batch_sizes.tolist(),
        torch.where(mask, offsets[1 : n_tokens + 1] + rank[:, None], 0),
        torch.where(mask, offsets[backward_step] + rank[:, None], 0),
        mask,
        order,
    )


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of the indices of sentences of similar length, longest first.

    :param batch_tokens: maximum tokens of a batch, padding included; a longer sentence is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * (lengths[batch[0]] + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


EncodeWords = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Tokens -> the vectors of the marks and the distinct words, (U, P), and the index of each token, (T)."""


def embed_in_windows(
    bilm: BiLM,
    tokens: Sequence[str],
    selection: LayerSelection,
    window: int,
    encode_words: EncodeWords,
    device: torch.device,
) -> Tensor:
    """Embed a long sentence window by window, in memory that does not grow with its length except for the result.

    Each direction starts at its own end and carries its state from window to window, which gives the same vectors.

    :param window: tokens that are computed at once.
    :param device: of the result, which may not fit into the memory of a GPU.
    :returns: (L, T, 2 P) for ``"all"``, otherwise (T, 2 P), float32.
    """
    size = bilm.config.projection_size
    shape = (len(tokens), 2 * size) if selection != "all" else (bilm.config.n_layers + 1, len(tokens), 2 * size)
    result = torch.empty(shape, device=device)
    state = bilm.zero_state(1)
    for begin in range(0, len(tokens), window):
        end = min(begin + window, len(tokens))
        forward_part, backward_part = slice(begin, end), slice(len(tokens) - end, len(tokens) - begin)
        words, ids = encode_words([*tokens[forward_part], *tokens[backward_part]])
        forward, backward = ids[: end - begin], ids[end - begin :].flip(0)
        if begin == 0:
            forward = F.pad(forward, (1, 0), value=BEGIN_SENTENCE)
            backward = F.pad(backward, (1, 0), value=END_SENTENCE)
        batch_sizes, n_layers = [1] * len(forward), n_recurrent_layers(selection)
        *layers, state = bilm.run(words, forward, backward, batch_sizes, state, n_layers=n_layers)
        forward, backward = (select_layers(torch.stack(each)[:, begin - end :], selection) for each in layers)
        result[..., forward_part, :size] = forward
        result[..., backward_part, size:] = backward.flip(-2)
    return result


class StateCache:
    """Final states of the rows of a batch, carried to the next call as in AllenNLP and bilm-tf."""

    def __init__(self) -> None:
        self._state: BiLMState | None = None

    def reset(self) -> None:
        """Let every row start from zero."""
        self._state = None

    def get(self, bilm: BiLM, order: Tensor) -> BiLMState:
        """Return the states of packed rows; new rows start from zero.

        :param order: index of the sentence in each packed row, (B).
        """
        initial = bilm.zero_state(len(order))
        if self._state is None:
            return initial
        for new, old in zip(initial, self._state, strict=True):
            for part, kept in zip(new, old, strict=True):
                n_rows = min(part.shape[1], kept.shape[1])
                part[:, :n_rows] = kept[:, :n_rows]
        return BiLMState(*(State(*(part[:, order] for part in state)) for state in initial))

    def update(self, final: BiLMState, order: Tensor) -> None:
        """Store the final states of packed rows; rows beyond this batch keep theirs.

        :param order: as in :meth:`get`.
        """
        rank = order.argsort()
        states = []
        for index, state in enumerate(final.detach()):
            parts = [part[:, rank] for part in state]
            if self._state is not None:
                kept = self._state[index]
                others = [old[:, new.shape[1] :].to(new) for new, old in zip(parts, kept, strict=True)]
                parts = [torch.cat(each, dim=1) for each in zip(parts, others, strict=True)]
            states.append(State(*parts))
        self._state = BiLMState(*states)
