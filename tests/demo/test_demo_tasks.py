import pytest
import torch
from test_documentation_tasks import TOKENIZER, make_modules
from torch import nn

from elmolite.demo import tasks
from elmolite.demo.examples import Amounts, code_examples, package_examples, pair_examples
from elmolite.demo.tasks import Recurrence, marked, write_examples
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.examples.files import read_examples
from elmolite.tasks.heads import TokenFeatures

AMOUNTS = Amounts(60, 20, 20, n_packages=2)


def words(*lengths, size=4, n=None):
    torch.manual_seed(sum(lengths))
    mask = torch.arange(n or max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return TokenFeatures(torch.randn(*mask.shape, size) * mask.unsqueeze(2), mask)


def padded(given, n):
    vectors = nn.functional.pad(given.vectors, (0, 0, 0, n), value=9.0)
    return TokenFeatures(vectors, nn.functional.pad(given.mask, (0, n)))


def test_what_is_behind_the_end_of_a_sentence_does_not_count():
    torch.manual_seed(0)
    head = Recurrence(4, 2).eval()
    first, second = words(3, 5), words(4, 2)
    torch.testing.assert_close(head(padded(first, 2), padded(second, 3)), head(first, second))


def pairs(n, *, seed):
    """Pairs of which the second sentence of every other one has two words of the first."""
    torch.manual_seed(seed)
    first, second = torch.randn(n, 5, 16), torch.randn(n, 6, 16)
    second[::2, 1:3] = first[::2, 2:4]
    mask = torch.ones(n, 6, dtype=torch.bool)
    return (TokenFeatures(first, mask[:, :5]), TokenFeatures(second, mask)), torch.arange(n) % 2


def test_words_that_come_again_make_the_difference():
    torch.manual_seed(0)
    head = Recurrence(16, 2)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    sentences, targets = pairs(256, seed=1)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(*sentences), targets).backward()
        optimizer.step()
    sentences, targets = pairs(100, seed=2)
    assert (head.eval()(*sentences).argmax(1) == targets).float().mean() > 0.8


@pytest.mark.parametrize("make", [package_examples, code_examples, pair_examples])
def test_examples_are_written_as_they_can_be_read(tmp_path, make):
    examples = make(make_modules(), TOKENIZER, AMOUNTS)
    write_examples(examples, tmp_path)
    for name in ("train", "dev", "test"):
        read = read_examples(tmp_path / f"{name}.jsonl", examples.task).examples
        assert [each[:2] for each in read] == [each[:2] for each in getattr(examples, name)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-CODE I-CODE O", "a `b c` d"),
        ("B-CODE B-CODE O I-CODE", "`a` `b` c `d`"),
        ("O I-CODE I-CODE I-CODE", "a `b c d`"),
        ("O O O O", "a b c d"),
    ],
)
def test_marked(tags, expected):
    assert marked(["a", "b", "c", "d"], tags.split()) == expected


def test_all_three_tasks_of_both_encoders(tmp_path, capsys, model_folder):
    tasks.run(make_modules(), model_folder, TOKENIZER, tmp_path, amounts=AMOUNTS, n_epochs=1)
    out = capsys.readouterr().out
    table, weights = out.split("\n\n")[-2:]
    header, *rows = table.split("\n")
    assert header.split() == ["train", "/", "test", "measure", "no", "model", "untrained", "pretrained"]
    assert [row.split()[0] for row in rows] == ["package", "code", "pair"]
    assert [float(row.split()[5]) for row in rows] == [0.5, 1.0, 0.5]
    assert "token layer  LSTM layer 1  LSTM layer 2" in weights
    assert not (tmp_path / "layers").exists()
    run = tmp_path / "code" / "pretrained-0"
    trained = TaskCheckpoint.from_pretrained(run, encoder=model_folder)
    assert len(trained.predict([["Give", "a", "name"]])[0].labels) == 3
