"""The sums and maxima of the CRF equal those over every sequence, written out."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from elmolite.tasks.crf import LinearChainCRF
from elmolite.tasks.spans import Transitions

LENGTHS = (4, 1, 3)
N_TAGS = 3


def make_crf(*, with_constraints=False):
    torch.manual_seed(3)
    allowed = Transitions(np.ones((N_TAGS, N_TAGS), bool), np.ones(N_TAGS, bool), np.ones(N_TAGS, bool))
    if with_constraints:
        allowed.between[0, 1] = allowed.between[2, 2] = allowed.start[1] = allowed.end[0] = False
    crf = LinearChainCRF(allowed).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_()
    return crf, *allowed


def batch(seed=5):
    generator = torch.Generator().manual_seed(seed)
    emissions = torch.randn(len(LENGTHS), max(LENGTHS), N_TAGS, generator=generator, dtype=torch.float64)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return emissions, mask


def score(crf, emissions, tags):
    """As the equation at the top of the module, term by term."""
    total = crf.start[tags[0]] + crf.end[tags[-1]]
    total = total + sum(emissions[t, tag] for t, tag in enumerate(tags))
    return total + sum(crf.transitions[before, after] for before, after in pairwise(tags))


def sequences(length, allowed, start, end):
    for tags in product(range(N_TAGS), repeat=length):
        moves = pairwise(tags)
        if start[tags[0]] and end[tags[-1]] and all(allowed[before, after] for before, after in moves):
            yield tags


@pytest.mark.parametrize("with_constraints", [False, True])
def test_log_likelihood_is_normalised_over_all_sequences(with_constraints):
    crf, *_ = make_crf(with_constraints=with_constraints)
    emissions, mask = batch()
    tags = torch.tensor([[0, 1, 2, 2], [1, 0, 0, 0], [2, 0, 1, 7]])  # of which some are forbidden in decoding
    found = crf.log_likelihood(emissions, tags, mask)
    for row, length in enumerate(LENGTHS):
        scores = [score(crf, emissions[row], each) for each in product(range(N_TAGS), repeat=length)]
        expected = score(crf, emissions[row], tags[row, :length].tolist()) - torch.stack(scores).logsumexp(dim=0)
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("with_constraints", [False, True])
def test_decoding_and_marginals_are_those_of_the_allowed_sequences(with_constraints):
    crf, *constraints = make_crf(with_constraints=with_constraints)
    for seed in range(20):
        emissions, mask = batch(seed)
        best, marginals = crf.decode(emissions, mask), crf.marginals(emissions, mask)
        for row, length in enumerate(LENGTHS):
            shares = torch.zeros(max(LENGTHS), N_TAGS, dtype=torch.float64)
            scores = {tags: score(crf, emissions[row], tags).item() for tags in sequences(length, *constraints)}
            for tags, value in scores.items():
                shares[range(length), tags] += math.exp(value)
            torch.testing.assert_close(marginals[row], shares / shares[0].sum())
            assert best[row, :length].tolist() == list(max(scores, key=scores.get))
            assert not best[row, length:].any()


def test_constraints_are_no_part_of_the_weights():
    assert set(make_crf(with_constraints=True)[0].state_dict()) == {"transitions", "start", "end"}
