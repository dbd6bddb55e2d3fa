"""Small labelled files, whose labels are functions of the words, and runs on them of a fraction of a second."""

import random

from helpers.data import random_sentences

from elmolite.tasks.config import (
    DEFAULT_COLUMNS,
    ClassifyConfig,
    EntailConfig,
    ExampleColumns,
    FinetuningConfig,
    InputConfig,
    TagConfig,
)
from elmolite.tasks.examples.sources import TaskExamples, read_examples
from elmolite.tasks.finetune import FinetuningRun, fit

WORDS = {onset: [onset + rest for rest in ("n", "st", "ve", "ly", "é")] for onset in ("ba", "ki", "lu")}
SMALL = {"hidden_size": 8, "dropout": 0.0}
HEADS = {"classify": ClassifyConfig(**SMALL), "tag": TagConfig(**SMALL), "entail": EntailConfig(**SMALL)}


def examples_of(path, content, task, *, needs_labels=True, **columns):
    """Sentences and labels of what a file with this content holds."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_examples(path, task, ExampleColumns(**columns), needs_labels=needs_labels)
    return [(*example.sentences, example.labels) for example in found.examples]


def sentences_of(onset, n, *, seed=0, longest=5):
    """Sentences of words with one onset."""
    return [sentence[:longest] for sentence in random_sentences(n, seed=seed, words=WORDS[onset])]


def write_lines(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_classes(path, n=32, *, seed=0, labels=("left", "right")):
    """``label text``: one label for words in ba-, the other for words in ki-."""
    rows = []
    for pair in zip(*(sentences_of(onset, n // 2, seed=seed + i) for i, onset in enumerate(("ba", "ki"))), strict=True):
        rows += [f"{label} {' '.join(words)}" for label, words in zip(labels, pair, strict=True)]
    return write_lines(path, *rows)


def write_label_sets(path, n=32):
    """Tab-separated: the labels of a text name the onsets in it, and words in lu- have none."""
    lines = ["text\tlabel"]
    onsets = [("ba",), ("ki",), ("ba", "ki"), ("lu",)]
    for i in range(n):
        here = onsets[i % len(onsets)]
        words = [word for onset in here for word in sentences_of(onset, 1, seed=i, longest=3)[0]]
        lines.append(f"{' '.join(words)}\t{'|'.join(onset for onset in here if onset != 'lu')}")
    return write_lines(path, *lines)


def mixed_sentences(n, *, seed=0):
    return [sentence[:8] for sentence in random_sentences(n, seed=seed, words=[w for ws in WORDS.values() for w in ws])]


def onset_tags(words):
    """The tag of a word is its onset."""
    return [word[:2] for word in words]


def span_tags(words):
    """Words in ki- that stand together are a span K, those in lu- a span L."""
    tags, before = [], None
    for word in words:
        kind = {"ki": "K", "lu": "L"}.get(word[:2])
        tags.append("O" if kind is None else f"{'I' if kind == before else 'B'}-{kind}")
        before = kind
    return tags


def write_tagged(path, tags=onset_tags, n=24, *, seed=0):
    """CoNLL columns."""
    blocks = ["".join(f"{w}\t{t}\n" for w, t in zip(s, tags(s), strict=True)) for s in mixed_sentences(n, seed=seed)]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def write_pairs(path, n=32, *, seed=0):
    """Tab-separated: whether premise and hypothesis have words of the same onset."""
    rng = random.Random(seed)
    lines = ["premise\thypothesis\tlabel"]
    for i in range(n):
        onsets = [rng.choice(("ba", "ki")) for _ in range(2)]
        sides = (sentences_of(onset, 1, seed=seed + 2 * i + j, longest=2)[0] for j, onset in enumerate(onsets))
        lines.append("\t".join([*map(" ".join, sides), "same" if onsets[0] == onsets[1] else "other"]))
    return write_lines(path, *lines)


def write_vectors(path, words=None, *, size=6):
    """Static vectors, in which words of one onset are alike."""
    rng = random.Random(0)
    words = words or [word for each in WORDS.values() for word in each]
    rows = []
    for word in words:
        base = [float(word.startswith(onset)) for onset in WORDS] + [0.0] * (size - len(WORDS))
        rows.append(" ".join([word, *(f"{value + rng.gauss(0, 0.1):.4f}" for value in base)]))
    return write_lines(path, *rows)


WRITERS = {"classify": write_classes, "tag": write_tagged, "entail": write_pairs}


def setup_of(
    encoder, task, *, train, dev=None, test=None, head=None, columns=DEFAULT_COLUMNS, random_init=False, **inputs
):
    """A run of a small head; the dev examples are the training examples if no others are given."""
    return FinetuningRun.build(
        TaskExamples.read(task, train=train, dev=dev or train, test=test, columns=columns),
        encoder=encoder,
        inputs=InputConfig(**{"normalization": "layer", "dropout": 0.0, **inputs}),
        head=head or HEADS[task],
        random_init=random_init,
    )


def config(**changes):
    fields = {"n_epochs": 3, "patience": 40, "batch_size": 8, "learning_rate": 0.03, "mix_penalty": 0.0}
    return FinetuningConfig(**{**fields, **changes})


def train(setup, out, *, overwrite=False, refers_to_encoder=False, cache=None, **changes):
    cache = out.parent / "cache" if cache is None else cache
    options = {"cache": cache, "refers_to_encoder": refers_to_encoder, "overwrite": overwrite}
    return fit(setup, config(**changes), out, show_progress=False, **options)


def weights_of(result):
    """The bytes of the task weights of a run."""
    return (result.folder / "model.safetensors").read_bytes()


def train_every_kind(encoder, folder):
    """Train a task of each kind: name -> its result and its training examples, which are its dev examples too."""
    writers = {**WRITERS, "spans": lambda path: write_tagged(path, span_tags), "label sets": write_label_sets}
    columns = {"label sets": ExampleColumns(label_separator="|"), "classify": ExampleColumns(format="label-text")}
    suffixes = {"classify": ".txt", "tag": ".conll", "spans": ".conll"}
    trained = {}
    for name, write in writers.items():
        path = write(folder / f"{name}{suffixes.get(name, '.tsv')}")
        task = {"spans": "tag", "label sets": "classify"}.get(name, name)
        static = str(write_vectors(folder / "vectors.txt")) if name == "classify" else None
        setup = setup_of(encoder, task, train=path, columns=columns.get(name, DEFAULT_COLUMNS), static=static)
        trained[name] = (train(setup, folder / f"{name} run", n_epochs=4), path)
    return trained
