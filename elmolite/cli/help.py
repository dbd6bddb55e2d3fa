"""Help of the command line: overview, usage, examples and groups of options, and names that other tools use."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

DOCUMENTATION = "https://elmolite.github.io/elmolite/"

SECTIONS: dict[str, tuple[str, ...]] = {
    "Data and pretraining": ("prepare", "pretrain", "evaluate"),
    "Vectors": ("embed", "neighbours", "convert"),
    "Tasks": ("finetune", "predict", "test"),
    "Other": ("info", "demo", "completion", "help"),
}
"""Commands of each section of ``elmolite --help``."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "prepare": (
        "elmolite prepare books/*.txt --vocab-size 50000 --out corpus/",
        "elmolite prepare --dataset wikimedia/wikipedia --dataset-config 20231101.cy --streaming --out corpus/",
    ),
    "pretrain": (
        "elmolite pretrain --corpus corpus/ --preset mini --out runs/mini",
        "elmolite pretrain --out runs/mini --resume",
    ),
    "evaluate": ("elmolite evaluate mini-en other-text.txt",),
    "embed": ("elmolite embed mini-en --input sentences.txt --output vectors.npz --layers average",),
    "neighbours": ("elmolite neighbours mini-en novel.txt --query 'He saw the [play].' -n 10",),
    "convert": (
        "elmolite convert elmo_2x4096_options.json original/",
        "elmolite convert runs/mini/model for-allennlp/",
    ),
    "finetune": (
        "elmolite finetune tag --encoder mini-en --train train.conllu --dev dev.conllu --out runs/pos",
        "elmolite finetune classify --config trec --train train.tsv --test test.tsv --out runs/trec --seeds 3",
    ),
    "predict": ("elmolite predict runs/pos --input sentences.txt --output tagged.jsonl",),
    "test": ("elmolite test runs/pos test.conllu --json",),
    "info": ("elmolite info mini-en", "elmolite info corpus/ --verify"),
    "demo": ("elmolite demo --size smoke",),
    "completion": (
        "elmolite completion bash > ~/.local/share/bash-completion/completions/elmolite",
        "elmolite completion zsh > ~/.zfunc/_elmolite",
    ),
}

REQUIRED: dict[str, tuple[str, ...]] = {"pretrain": ("corpus", "out"), "finetune": ("train",)}
"""Options that the usage marks as required, although a recipe, ``--resume`` or ``--dataset`` may replace them."""

GROUPS: dict[str, tuple[tuple[str, str], ...]] = {
    "prepare": (
        ("Input and output", "text out valid pretokenized workers overwrite"),
        ("Vocabulary", "vocab_size min_count vocab characters min_character_count"),
        (
            "Hugging Face datasets",
            "dataset dataset_config dataset_split dataset_column streaming valid_split",
        ),
    ),
    "pretrain": (
        ("Input and output", "corpus out init_from resume keep_last dry_run"),
        (
            "Training",
            "n_epochs max_steps batch_size bptt_length accumulate_steps n_validations patience valid_tokens seed",
        ),
        ("Optimization", "learning_rate schedule warmup_steps optimizer max_grad_norm ema_decay softmax n_negatives"),
        (
            "Regularization",
            "model.dropout reset_probability | activation_regularization temporal_activation_regularization "
            "model.variational_dropout model.recurrent_dropout model.embedding_dropout",
        ),
        ("Model", "preset model.n_layers model.cell_size model.projection_size model.cell model.input | model.*"),
        ("System", "device precision n_devices n_nodes | log_every_steps"),
    ),
    "evaluate": (("Input", "model text"),),
    "embed": (
        ("Input and output", "model input output pretokenized"),
        ("Vectors", "layers dtype precision batch_tokens"),
    ),
    "neighbours": (("Input", "model text query max_sentences"), ("Neighbours", "layers n")),
    "convert": (("Input and output", "src dst weights tokenizer overwrite"),),
    "finetune": (
        ("Input and output", "encoder train dev test out overwrite pretokenized dataset dataset_config | "
            "refer_to_encoder"),
        ("Comparisons", "seeds untrained baselines probe"),
        (
            "Training",
            "n_epochs patience batch_size learning_rate encoder_training encoder_learning_rate seed | weight_decay "
            "max_grad_norm mix_penalty cache no_cache cache_dtype",
        ),
        ("Input features", "input.layers input.static input.dropout | input.*"),
        ("Head", "head.kind head.hidden_size head.dropout head.n_layers head.pooling head.crf custom_head | head.*"),
        ("Columns of labelled files", "columns.text columns.second_text columns.label columns.format | columns.*"),
        ("System", "device | precision"),
    ),
    "predict": (
        ("Input and output", "model input output pretokenized custom_head encoder"),
        ("Columns of labelled files", "columns.text columns.second_text columns.label columns.format | columns.*"),
    ),
    "test": (
        ("Input", "model file custom_head encoder"),
        ("Columns of labelled files", "columns.text columns.second_text columns.label columns.format | columns.*"),
    ),
    "info": (("Input", "name verify runtime"),),
    "demo": (("Demonstration", "size out overwrite"),),
    "completion": (("Input", "shell"),),
}  # fmt: skip
"""Groups of a command's options; those after ``|`` are for experts and shown by ``--help-all``."""

METAVARS = {
    "batch_tokens": "N",
    "cache": "FOLDER",
    "config": "RECIPE",
    "corpus": "FOLDER",
    "custom_head": "FILE.py:NAME",
    "dev": "FILE",
    "device": "DEVICE",
    "dst": "FOLDER",
    "encoder": "MODEL",
    "init_from": "MODEL",
    "input": "FILE",
    "out": "FOLDER",
    "output": "FILE",
    "query": "SENTENCE",
    "input.static": "FILE",
    "test": "FILE",
    "train": "FILE",
    "valid": "FILE",
    "vocab": "FILE",
    "weights": "FILE",
}
"""Placeholder of an option's value; by default ``N`` or ``X`` for numbers, else the option's name."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "batch": ("batch_size", "batch_tokens"),
    "batch_size": ("batch_tokens",),
    "bf16": ("precision",),
    "bptt": ("bptt_length",),
    "checkpoint": ("init_from", "model", "encoder"),
    "continue": ("resume",),
    "cuda": ("device",),
    "data": ("train", "corpus", "input", "text", "file"),
    "dest": ("out", "output", "dst"),
    "devices": ("n_devices", "device"),
    "early_stopping": ("patience",),
    "epochs": ("n_epochs",),
    "eval": ("dev", "valid"),
    "eval_file": ("dev", "valid"),
    "file": ("input", "text", "train"),
    "force": ("overwrite",),
    "fp16": ("precision", "dtype"),
    "gpu": ("device",),
    "gpus": ("n_devices", "device"),
    "gradient_accumulation_steps": ("accumulate_steps",),
    "hidden": ("head.hidden_size", "model.cell_size"),
    "hidden_size": ("head.hidden_size", "model.cell_size"),
    "in": ("input", "text"),
    "input": ("text", "file", "corpus", "train", "src"),
    "input_file": ("input", "text", "file"),
    "k": ("n",),
    "lr": ("learning_rate",),
    "max_epochs": ("n_epochs",),
    "max_length": ("bptt_length",),
    "max_vocab_size": ("vocab_size",),
    "model": ("encoder", "preset", "src"),
    "model_name": ("model", "encoder", "preset"),
    "nodes": ("n_nodes",),
    "num_epochs": ("n_epochs",),
    "num_nodes": ("n_nodes",),
    "num_train_epochs": ("n_epochs",),
    "num_workers": ("workers",),
    "o": ("out", "output"),
    "out": ("output", "dst"),
    "output": ("out", "dst"),
    "output_dir": ("out", "output", "dst"),
    "output_file": ("output",),
    "pretrained": ("init_from", "encoder", "model"),
    "processes": ("workers", "n_devices"),
    "random_seed": ("seed",),
    "restart": ("resume",),
    "save": ("out", "output"),
    "silent": ("quiet",),
    "steps": ("max_steps",),
    "text": ("input",),
    "tokenized": ("pretokenized",),
    "top_k": ("n",),
    "train": ("corpus", "text"),
    "train_file": ("train", "corpus", "text"),
    "valid": ("dev",),
    "validation": ("valid", "dev"),
    "validation_file": ("dev", "valid"),
    "warmup": ("warmup_steps",),
    "window": ("bptt_length",),
    "wd": ("weight_decay",),
}
"""Names of options in other tools and commands -> options here, the most likely first."""


COMMAND_SYNONYMS = {
    "classify": "finetune classify",
    "encode": "embed",
    "entail": "finetune entail",
    "fine-tune": "finetune",
    "fit": "finetune",
    "neighbors": "neighbours",
    "perplexity": "evaluate",
    "preprocess": "prepare",
    "similar": "neighbours",
    "tag": "finetune tag",
    "train": "pretrain",
    "vectors": "embed",
}
"""Names of commands in other tools, and of tasks -> commands."""


class Formatter(RawDescriptionHelpFormatter):
    """Help of a command, as wide as the terminal."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{**settings, "max_help_position": 32})


class Shown(NamedTuple):
    """Option in a group of the help."""

    name: str
    for_experts: bool


def groups(command: str, names: Iterable[str], common: Iterable[str]) -> Iterator[tuple[str, list[Shown]]]:
    """Yield the title and the options of each group of a command's help.

    :param names: the arguments and options of the command.
    :param common: the options of every command.
    """
    left = [*names, *common]
    for title, spec in (*GROUPS.get(command, ()), ("Other options", "*")):
        shown, _, hidden = spec.partition("|")
        patterns = [(pattern, False) for pattern in shown.split()] + [(pattern, True) for pattern in hidden.split()]
        found: list[Shown] = []
        for pattern, for_experts in patterns:
            matching = [name for name in left if fnmatchcase(name, pattern)]
            left = [name for name in left if name not in matching]
            found += [Shown(name, for_experts) for name in matching]
        if found:
            yield title, found


def epilog(command: str, *, has_more: bool) -> str:
    """Return the end of a command's help: examples and where to read more."""
    name, _, task = command.partition(" ")
    every = EXAMPLES.get(name, ())
    examples = [each for each in every if not task or each.startswith(f"elmolite {command} ")] or every
    lines = ["Examples:", *(f"  {each}" for each in examples), ""] if examples else []
    if has_more:
        lines.append(f"More options, for experts: elmolite {command} --help-all")
    return "\n".join([*lines, f"Documentation: {DOCUMENTATION}"])


def overview(summaries: dict[str, str]) -> str:
    """Return ``elmolite --help``.

    :param summaries: command -> what it does.
    """
    lines = ["usage: elmolite COMMAND [options]", "", "Pretrain, embed with and fine-tune ELMo language models.", ""]
    for title, commands in SECTIONS.items():
        lines += [f"{title}:", *(f"  {name:<11} {summaries[name]}" for name in commands), ""]
    lines += [
        "Options:",
        "  -h, --help     This help; of a command: elmolite COMMAND --help, or elmolite help COMMAND.",
    ]
    lines += ["  -V, --version  The version.", "", "Example:", f"  {EXAMPLES['embed'][0]}", ""]
    lines.append(f"Documentation: {DOCUMENTATION}")
    return "\n".join(lines)
