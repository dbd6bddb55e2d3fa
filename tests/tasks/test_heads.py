"""What holds for every head: a sentence's scores are its own, and eight examples can be learnt by heart."""

from functools import partial

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from elmolite.tasks.heads import (
    ESIM,
    BiattentiveClassifier,
    BiLSTM,
    ConvolutionClassifier,
    LinearPairClassifier,
    PoolingClassifier,
    Tagger,
    TokenFeatures,
)
from elmolite.tasks.objectives import SequenceLabels, SingleLabel

SIZE, OUTPUT_SIZE, N_LABELS = 6, 4, 3
LENGTHS = (7, 1, 5, 2, 3, 9, 4, 6)

SMALL = {"hidden_size": 8, "dropout": 0.0}
SENTENCE_HEADS = {
    **{
        f"{pooling} of {n_layers}": partial(PoolingClassifier, pooling=pooling, hidden_size=8, n_layers=n_layers)
        for pooling in ("mean", "max", "attention", "final")
        for n_layers in (0, 1)
        if (pooling, n_layers) != ("final", 0)
    },
    "convolutions": partial(ConvolutionClassifier, hidden_size=10, dropout=0.0),
    "biattentive": partial(BiattentiveClassifier, **SMALL),
}
TAGGERS = {f"{n_layers} layers": partial(Tagger, hidden_size=8, n_layers=n_layers) for n_layers in (0, 1, 2)}
PAIR_HEADS = {"esim": partial(ESIM, **SMALL), "probe": LinearPairClassifier}
HEADS = {**SENTENCE_HEADS, **TAGGERS, **PAIR_HEADS}
LINEAR = ("mean of 0", "max of 0", "attention of 0", "0 layers")  # these learn what is linear


def words_of(lengths, *, seed=0, with_output=False):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    vectors, output = (torch.randn(*mask.shape, size, generator=generator) for size in (SIZE, OUTPUT_SIZE))
    return TokenFeatures(vectors * mask.unsqueeze(2), mask, output * mask.unsqueeze(2) if with_output else None)


def inputs_of(name, *, with_output=False):
    sentences = [words_of(LENGTHS, with_output=with_output)]
    if name in PAIR_HEADS:
        sentences.append(words_of(LENGTHS[::-1], seed=1, with_output=with_output))
    return sentences


def row(words, i, *, n_more=0):
    """One sentence alone, with some padding behind it."""
    length = int(words.mask[i].sum())

    def cut(part):
        part = part[i : i + 1, :length]
        return torch.cat([part, torch.zeros(1, n_more, *part.shape[2:], dtype=part.dtype)], dim=1)

    return TokenFeatures(*(None if part is None else cut(part) for part in words))


@pytest.mark.parametrize(
    ("name", "with_output"),
    [
        (name, with_output)
        for name in HEADS
        for with_output in (False, True)
        if (name, with_output) not in (("probe", True), ("final of 1", True))
    ],
)
def test_scores_of_a_sentence_are_its_own(name, with_output):
    """Whatever stands beside it, and however far it is filled up."""
    torch.manual_seed(0)
    extra = {"output_vectors_size": OUTPUT_SIZE} if with_output else {}
    head = HEADS[name](SIZE, N_LABELS, **extra).eval()
    sentences = inputs_of(name, with_output=with_output)
    together = head(*sentences)
    for i in range(len(LENGTHS)):
        for n_more in (0, 3):
            alone = head(*(row(words, i, n_more=n_more) for words in sentences))[0]
            expected = together[i]
            if name in TAGGERS:
                alone, expected = alone[: LENGTHS[i]], expected[: LENGTHS[i]]
            torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_eight_examples_can_be_learnt_by_heart(name):
    torch.manual_seed(0)
    head, sentences = HEADS[name](SIZE, N_LABELS), inputs_of(name)
    if name in TAGGERS:
        objective = SequenceLabels("abc")
        labels = [["abc"[(i * t) % 3] for t in range(length)] for i, length in enumerate(LENGTHS)]
    else:
        objective, labels = SingleLabel("abc"), [["abc"[i % 3]] for i in range(len(LENGTHS))]
    targets = objective.targets(labels)
    optimizer = torch.optim.Adam([*head.parameters(), *objective.parameters()], lr=0.03)
    losses = []
    while len(losses) < 150 and (not losses or losses[-1] >= 0.1):
        optimizer.zero_grad()
        loss = objective.loss(head(*sentences), targets, sentences[0].mask)
        loss.backward()
        assert all(parameter.grad is not None for parameter in head.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < (0.9 * losses[0] if name in LINEAR else 0.1)


def test_the_biattentive_network_takes_a_batch_of_one_in_training():
    head = HEADS["biattentive"](SIZE, N_LABELS).train()
    assert head(row(words_of(LENGTHS), 0)).isfinite().all()


def test_the_bilstm_is_torchs_over_packed_sequences():
    torch.manual_seed(0)
    ours, words = BiLSTM(SIZE, 8, n_layers=2), words_of(LENGTHS)
    theirs = torch.nn.LSTM(SIZE, 8, 2, batch_first=True, bidirectional=True)
    for suffix, layers in (("", ours.forward_layers), ("_reverse", ours.backward_layers)):
        for number, layer in enumerate(layers):
            for name, weight in layer.named_parameters():
                getattr(theirs, name.replace("_l0", f"_l{number}{suffix}")).data.copy_(weight.data)
    packed = pack_padded_sequence(words.vectors, LENGTHS, batch_first=True, enforce_sorted=False)
    output, (state, _) = theirs(packed)
    expected, _ = pad_packed_sequence(output, batch_first=True)
    found, final = ours(words.vectors, words.mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(final, torch.cat([state[-2], state[-1]], dim=1), rtol=1e-4, atol=1e-6)
