"""Words of the command line: overview, examples and groups of options, names in other tools, flags in messages."""

from __future__ import annotations

import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

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
    "predict": (
        "elmolite predict runs/pos --input sentences.txt --output tagged.jsonl",
        "elmolite predict mini-en-upos --input sentences.txt",
    ),
    "test": ("elmolite test runs/pos test.conllu --json",),
    "info": ("elmolite info mini-en", "elmolite info runs/pos", "elmolite info corpus/ --verify"),
    "demo": ("elmolite demo --size smoke",),
    "completion": (
        "elmolite completion bash > ~/.local/share/bash-completion/completions/elmolite",
        "elmolite completion zsh > ~/.zfunc/_elmolite",
    ),
}

REQUIRED: dict[str, tuple[str, ...]] = {"pretrain": ("corpus", "out"), "finetune": ("train",)}
"""Options that the usage marks as required, although a recipe, ``--resume`` or ``--dataset`` may replace them."""

_COLUMNS = ("Columns of labelled files", "columns.text columns.second_text columns.label columns.format | columns.*")
GROUPS: dict[str, tuple[tuple[str, str], ...]] = {
    "prepare": (
        ("Input and output", "text out valid pretokenized workers overwrite"),
        ("Vocabulary", "vocab_size min_count vocab characters min_character_count"),
        ("Hugging Face datasets", "dataset dataset_config dataset_split dataset_column streaming valid_split"),
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
    "embed": (
        ("Input and output", "model input output pretokenized"),
        ("Vectors", "layers dtype precision batch_tokens"),
    ),
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
        _COLUMNS,
        ("System", "device | precision"),
    ),
    "predict": (("Input and output", "model input output pretokenized custom_head encoder"), _COLUMNS),
    "test": (("Input", "model file custom_head encoder"), _COLUMNS),
}  # fmt: skip
"""Groups of a command's options; those after ``|`` are for experts and shown by ``--help-all``."""

METAVARS = {
    "FILE": "dev input input.static output test train valid vocab weights",
    "FILE.py:NAME": "custom_head",
    "FOLDER": "cache corpus dst out",
    "MODEL": "encoder init_from",
    "RECIPE": "config",
    "SENTENCE": "query",
}
"""Placeholder of values -> options; other options have ``N`` or ``X`` for numbers, else their name."""

SYNONYMS = {
    "batch_tokens": "batch_size",
    "patience": "early_stopping",
    "dtype": "fp16",
    "precision": "bf16 fp16 int8 quantize",
    "n_devices": "gpus",
    "device": "cuda gpu gpus",
    "accumulate_steps": "gradient_accumulation_steps",
    "bptt_length": "max_length",
    "learning_rate": "lr",
    "max_steps": "steps",
    "model.cell_size": "hidden hidden_size",
    "seed": "random_seed",
    "n_epochs": "num_train_epochs",
    "n": "k top_k",
    "weight_decay": "wd",
    "overwrite": "force",
    "resume": "continue restart",
    "quiet": "silent",
    "workers": "processes",
    "init_from": "checkpoint pretrained",
    "model": "checkpoint encoder model_name pretrained",
    "encoder": "checkpoint model model_name pretrained",
    "preset": "model model_name",
    "src": "input model",
    "dev": "eval eval_file valid validation validation_file",
    "valid": "dev eval validation validation_file",
    "train": "data file train_file",
    "corpus": "data input train train_file",
    "input": "data file input_file text",
    "text": "data file input input_file train",
    "file": "data input input_file",
    "out": "output output_dir save",
    "output": "out output_file save",
    "dst": "out output output_dir",
}
"""Option -> its names in other tools and commands; of several options with a name, the first one is meant."""

COMMAND_SYNONYMS = {
    "classify": "finetune classify",
    "encode": "embed",
    "entail": "finetune entail",
    "perplexity": "evaluate",
    "preprocess": "prepare",
    "tag": "finetune tag",
    "train": "pretrain",
}
"""Names of commands in other tools, and of tasks -> commands."""

_ARGUMENT = re.compile(r"^([a-z][\w.]*)(?= (?:must|requires|cannot|is missing)\b)|`([a-z]\w*(?:\.\w+)*)(?:=([^`]*))?`")
_OPTIONS = {"cache=False": "no_cache", "head": "custom_head", "n_workers": "workers", "random_init": "untrained"}
"""Python argument -> option, where the name is another."""


def flag(name: str) -> str:
    """Return the option of a name."""
    return f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"


def with_flags(message: str, options: Mapping[str, str]) -> str:
    """Show the arguments in a message of the library as the user gives them on the command line.

    These are the ones in back-ticks, `` `batch_size=8` `` as --batch-size 8, and one that the message begins with, as
    in "batch_size must be positive".

    :param options: how to show each option of the command; other names stay.
    """

    def shown(found: re.Match[str]) -> str:
        subject, name, value = found.groups()
        if subject is not None:
            return next((options[each] for each in (subject, subject.removeprefix("n_")) if each in options), subject)
        as_given = name if value is None else f"{name}={value}"
        option = _OPTIONS.get(as_given) or _OPTIONS.get(name, name)
        if option not in options:
            return found[0]
        is_switch = value in (None, "True") or as_given in _OPTIONS
        return flag(option) if is_switch else f"{flag(option)} {value.strip(chr(39))}"

    return _ARGUMENT.sub(shown, message)


class Formatter(RawDescriptionHelpFormatter):
    """Help of a command, as wide as the terminal."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{**settings, "max_help_position": 32})


def groups(command: str, names: Sequence[str], common: Iterable[str]) -> Iterator[tuple[str, dict[str, bool]]]:
    """Yield the title of each group of a command's help, and its options: whether they are for experts, by name.

    :param names: the arguments and options of the command.
    :param common: the options of every command.
    """
    own, left = GROUPS.get(command, (("Arguments and options", " ".join(names)),)), [*names, *common]
    for title, spec in (*own, ("Other options", "*")):
        found: dict[str, bool] = {}
        for for_experts, patterns in enumerate(spec.split("|")):
            for pattern in patterns.split():
                matching = [name for name in left if fnmatchcase(name, pattern)]
                left = [name for name in left if name not in matching]
                found |= dict.fromkeys(matching, bool(for_experts))
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
