"""The commands: functions whose parameters are the options, and the table of them.

A command is one function here and one line in :data:`COMMANDS`. Modules are imported by the command that needs them,
so that ``elmolite --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from elmolite.embedding import BATCH_TOKENS
from elmolite.errors import InputError, exit_code, nearest

if TYPE_CHECKING:
    from elmolite import BiLMConfig, ExampleColumns, FinetuningConfig, InputConfig, PretrainingConfig
    from elmolite.embedding.batching import LayerSelection

DEFAULT_PRESET = "mini"
_RUN_ARGUMENTS = ("corpus", "out", "init_from", "resume", "keep_last", "dry_run", "plan")


def prepare(
    text: Sequence[str] = (),
    *,
    out: Path,
    valid: Sequence[str] = (),
    pretokenized: bool = False,
    vocab_size: int | None = None,
    min_count: int | None = None,
    characters: Literal["bytes", "unicode"] = "bytes",
    min_character_count: int | None = None,
    vocab: Path | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    dataset: str | None = None,
    dataset_config: str | None = None,
    dataset_split: str | None = None,
    dataset_column: str | None = None,
    streaming: bool = False,
    valid_split: str | None = None,
    quiet: bool = False,
) -> None:
    """Tokenize text into a corpus folder with its vocabulary.

    :param text: files, folders, globs, .gz files, or - for standard input
    :param out: corpus folder to write
    :param valid: validation text (default: set aside from the text)
    :param pretokenized: the text has one sentence a line, with spaces between tokens
    :param vocab_size: maximum number of words of the softmax, 3 special ones included
    :param min_count: minimum count of a word of the vocabulary (default: 2)
    :param characters: characters that the model reads; unicode suits scripts with several bytes a character
    :param min_character_count: minimum count of a Unicode character; rarer ones are unknown (default: 5)
    :param vocab: vocabulary file, one word a line
    :param workers: number of processes (default: one a core)
    :param overwrite: replace an existing corpus folder
    :param dataset: Hugging Face dataset in place of TEXT: a name on the hub, or a folder of data files
    :param dataset_config: configuration of the dataset
    :param dataset_split: split of the dataset (default: train)
    :param dataset_column: column with the text (default: text)
    :param streaming: read the dataset row by row, without storing it
    :param valid_split: split of the dataset with the validation text
    """
    of_dataset = {"config": dataset_config, "split": dataset_split, "column": dataset_column}
    needless = [f"--dataset-{name}" for name, value in of_dataset.items() if value is not None]
    needless += [flag for flag, value in (("--streaming", streaming), ("--valid-split", valid_split)) if value]
    if dataset is None and needless:
        raise InputError(f"{needless[0]} requires --dataset")
    if dataset is not None and text:
        raise InputError(f"TEXT ({text[0]}) and --dataset exclude each other")
    if valid and valid_split is not None:
        raise InputError("--valid and --valid-split exclude each other")

    from elmolite.data.hf_datasets import DatasetText
    from elmolite.data.prepare import prepare as prepare_corpus
    from elmolite.data.tokenization import SentenceTokenizer
    from elmolite.data.vocab import Vocabulary

    def split(name: str) -> DatasetText:
        return DatasetText(dataset or "", dataset_config, name, dataset_column or "text", streaming=streaming)

    corpus = prepare_corpus(
        text if dataset is None else split(dataset_split or "train"),
        out,
        valid=valid if valid_split is None else split(valid_split),
        tokenizer=SentenceTokenizer.whitespace() if pretokenized else SentenceTokenizer.english(),
        vocab_size=vocab_size,
        min_count=min_count,
        vocabulary=None if vocab is None else Vocabulary.load(vocab),
        characters=characters,
        min_character_count=min_character_count,
        n_workers=workers,
        overwrite=overwrite,
        show_progress=not quiet,
    )
    print(corpus.describe())
    print(f"next: elmolite pretrain --corpus {out} --preset {DEFAULT_PRESET} --out runs/{DEFAULT_PRESET}")


def pretrain(
    *,
    corpus: Path | None = None,
    out: Path | None = None,
    resume: bool = False,
    keep_last: int = 2,
    dry_run: bool = False,
    init_from: Path | None = None,
    preset: str | None = None,  # noqa: ARG001  # chooses the defaults of `model`
    config: PretrainingConfig,
    model: BiLMConfig,
    quiet: bool = False,
) -> None:
    """Pretrain a bidirectional language model on a prepared corpus.

    :param corpus: corpus folder made by elmolite prepare
    :param out: folder for the log, the model and the checkpoints
    :param resume: continue the run in --out with its settings
    :param keep_last: number of checkpoints to keep
    :param dry_run: estimate time and memory from a few steps, and stop
    :param init_from: model folder to start from; the corpus may have other words, the sizes are the model's
    :param preset: sizes of the model: tiny, mini, small, medium or original (default: mini)
    """
    from elmolite.pretraining.distributed import is_rank_zero

    assert corpus is not None  # as checked with the other options
    if dry_run or out is None:
        from elmolite.pretraining.estimate import estimate

        found = estimate(config, model=model, corpus=corpus, init_from=init_from)
        if is_rank_zero():
            print(found.describe())
        return

    from elmolite.pretraining.trainer import pretrain as train
    from elmolite.utils.torch import keep_freed_memory

    keep_freed_memory()
    try:
        folder = train(
            config,
            model=model,
            corpus=corpus,
            out=out,
            init_from=init_from,
            resume=resume,
            keep_last=keep_last,
            show_progress=not quiet,
        )
    except KeyboardInterrupt as error:
        if is_rank_zero():
            raise
        raise SystemExit(exit_code(error)) from None
    if is_rank_zero():
        print(f"model: {folder}\nnext: elmolite embed {folder} --input TEXT --output vectors.npz")


def _parse_pretrain(words: Sequence[str]) -> dict[str, Any]:
    """Parse the options on all ranks, and check the ones that a recipe for Python has not."""
    from elmolite.pretraining.distributed import join_process_group, reraise_on_all_ranks

    join_process_group()
    with reraise_on_all_ranks():
        arguments = _pretrain_arguments(words)
        for name in ("corpus", "out"):
            if arguments[name] is None and not (name == "out" and arguments["dry_run"]):
                raise InputError(f"--{name} is required; see elmolite pretrain --help")
        return arguments


def _pretrain_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Parse the options twice: the preset, the model to start from and the run to resume choose the other defaults."""
    from elmolite.checkpoint import read_config
    from elmolite.cli.options import CommandParser
    from elmolite.nn.config import PRESETS
    from elmolite.pretraining.config import RUN_FILE
    from elmolite.pretraining.setup import read_run_config

    parser = CommandParser("pretrain", pretrain)

    def set_sizes(model: Mapping[str, Any]) -> None:
        parser.set_defaults({f"model.{name}": value for name, value in model.items()})

    set_sizes(asdict(PRESETS[DEFAULT_PRESET]()))
    values = parser.parse(words)
    if values.init_from is not None:
        if values.preset is not None:
            raise InputError("--preset and --init-from exclude each other: the model to start from has its own sizes")
        set_sizes(asdict(read_config(Path(values.init_from))))
    elif values.preset is not None:
        if values.preset not in PRESETS:
            raise InputError(f"unknown preset {values.preset!r}{nearest(values.preset, PRESETS)}")
        set_sizes(asdict(PRESETS[values.preset]()))
    if values.resume and values.out is not None and (Path(values.out) / RUN_FILE).is_file():
        record = read_run_config(Path(values.out))
        set_sizes(record.get("model", {}))
        parser.set_defaults({"corpus": record.get("corpus_folder"), **record["training"]})
    return parser.arguments(parser.parse(words))


def load_recipe(path: str | Path) -> tuple[BiLMConfig, PretrainingConfig]:
    """Read a configuration file as ``elmolite pretrain --config`` does.

    :returns: the sizes and the training settings, as :func:`elmolite.pretrain` takes them.
    :raises InputError: it cannot be read, has an unknown key, an argument of :func:`elmolite.pretrain`, or an invalid
        value.
    """
    from elmolite.cli.options import read_config

    for name in read_config(str(path)):
        if name in _RUN_ARGUMENTS:
            raise InputError(f"{path}: {name!r} is not a setting of a recipe; give it to pretrain()")
    arguments = _pretrain_arguments(["--config", str(path)])
    return arguments["model"], arguments["config"]


def evaluate(model: str, text: Sequence[str], *, json_: bool = False, quiet: bool = False) -> None:
    """Compute a model's perplexity on a text, for each direction and both, over running text and by sentence.

    :param model: model folder with its softmax
    :param text: files, folders, globs, .gz files, or - for standard input
    :param json_: print one JSON object
    """
    from elmolite.pretraining.evaluation import evaluate_text

    result = evaluate_text(model, text, show_progress=not (json_ or quiet))
    print(json.dumps(result.as_dict()) if json_ else result.describe())


def embed(
    model: str,
    *,
    input_: str,
    output: Path,
    layers: str = "all",
    batch_tokens: int = BATCH_TOKENS,
    dtype: str = "float32",
    precision: str = "32-true",
    pretokenized: bool = False,
    quiet: bool = False,
) -> None:
    """Write the vectors of a file's sentences, one a line: to a resumable folder, an .npz file or an .h5 file.

    :param model: model folder, released model or earlier model
    :param input_: text file, one sentence a line, or - for standard input
    :param output: folder, FILE.npz or FILE.h5
    :param layers: all, top, average, or the number of a layer
    :param batch_tokens: maximum number of tokens computed at once
    :param dtype: type on disk: float32, float16 or, in a folder, bfloat16
    :param precision: precision of the computation: 32-true, or the faster bf16-mixed
    :param pretokenized: split lines at white space, instead of as the model's training text was
    """
    from elmolite.embedding.output import embed_file

    written = embed_file(
        model,
        input_,
        output,
        layers=_layers(layers),
        batch_tokens=batch_tokens,
        dtype=dtype,
        pretokenized=pretokenized,
        precision=precision,  # type: ignore[arg-type]  # checked there
        show_progress=not quiet,
    )
    print(f"{output}: {written.describe()}")


def _layers(text: str) -> LayerSelection:
    """Return the choice of layers, which :meth:`ELMo.embed` checks."""
    choice: LayerSelection = int(text) if text.isdecimal() else text  # type: ignore[assignment]
    return choice


def neighbours(
    model: str,
    text: Sequence[str],
    *,
    query: Annotated[Sequence[str], "repeatable"],
    layers: str = "top",
    n: int = 5,
    max_sentences: int = 10_000,
) -> None:
    """Find the tokens of a text whose vectors are most similar to that of a word in its sentence.

    :param model: model folder or released model
    :param text: files, folders, globs, .gz files, or - for standard input
    :param query: sentence with the word in brackets: 'they robbed a [bank]'; can be given several times
    :param layers: top, average, or the number of a layer
    :param n: number of neighbours of each query
    :param max_sentences: maximum number of sentences read
    """
    from itertools import islice

    from elmolite.data.text import find_files, read_documents
    from elmolite.embedding.elmo import ELMo
    from elmolite.embedding.neighbours import NeighbourIndex, parse_query
    from elmolite.utils.torch import best_device

    elmo = ELMo.from_pretrained(model).to(best_device())
    queries = [parse_query(each, elmo) for each in query]
    lines = (line for document in read_documents(find_files(text)) for line in document)
    sentences = (sentence for line in lines for sentence in elmo.tokenizer.sentences(line))
    index = NeighbourIndex(elmo, list(islice(sentences, max_sentences)), layers=_layers(layers))
    for each in queries:
        print(f"\n{index.describe(each, n)}")


def convert(
    src: str,
    dst: Path,
    *,
    weights: str | None = None,
    tokenizer: Literal["whitespace", "english"] | None = None,
    overwrite: bool = False,
) -> None:
    """Convert an AllenNLP, bilm-tf, NLPL or ELMoForManyLangs model to a model folder, or a model folder to HDF5.

    :param src: folder, zip archive, options file or weights file
    :param dst: folder to write
    :param weights: HDF5 file, if SRC is an options file in another folder
    :param tokenizer: tokenizer of the new model (default: whitespace, as in the earlier systems)
    :param overwrite: replace an existing model folder
    """
    from elmolite.checkpoint import convert as convert_model
    from elmolite.data.tokenization import SentenceTokenizer

    chosen = None if tokenizer is None else getattr(SentenceTokenizer, tokenizer)()
    print(f"{dst}: {convert_model(src, dst, weights=weights, tokenizer=chosen, overwrite=overwrite)}")


def finetune(
    task: str,
    *,
    encoder: str,
    train: str | None = None,
    dev: str | None = None,
    test: str | None = None,
    out: Path,
    dataset: str | None = None,
    dataset_config: str | None = None,
    custom_head: str | None = None,
    cache: Path | None = None,
    no_cache: bool = False,
    seeds: int = 1,
    untrained: bool = False,
    baselines: bool = False,
    probe: bool = False,
    pretokenized: bool = False,
    refer_to_encoder: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    config: FinetuningConfig,
    input: InputConfig,  # noqa: A002
    head: Any,
    columns: ExampleColumns,
) -> None:
    """Train a classifier, tagger or entailment model on the layers of a language model.

    :param encoder: language model: a model folder or the name of a released model
    :param train: training examples: a file, or with --dataset a split (default: train)
    :param dev: validation examples, which choose the epoch (default: every tenth training example; with --dataset:
        validation)
    :param test: test examples (optional)
    :param out: folder for the model, its scores and plots
    :param dataset: Hugging Face dataset, a name on the hub or a folder, in place of files
    :param dataset_config: configuration of the dataset
    :param custom_head: custom head, as FILE.py:NAME: a factory that takes the input width and the number of labels
    :param cache: folder for the layers of a frozen language model (default: the user's cache)
    :param no_cache: compute the layers of a frozen language model in every epoch
    :param seeds: number of seeds to train with, for mean and standard deviation
    :param untrained: use the language model with random weights, to measure the effect of pretraining
    :param baselines: compare with less: untrained, single layers, static vectors
    :param probe: compare linear classifiers on each layer and the mix, of the model and of the untrained one
    :param pretokenized: split sentences at white space, instead of as the language model's text was
    :param refer_to_encoder: do not copy the language model into --out; predict and test then need --encoder
    :param overwrite: replace the results of an earlier run in --out
    """
    from elmolite.tasks.compare import baselines as baseline_runs, compare, draw_profile, probes
    from elmolite.tasks.examples.sources import DatasetExamples, TaskExamples
    from elmolite.tasks.finetune import CacheFolder, FinetuningRun, fit

    if seeds < 1:
        raise InputError(f"--seeds must be positive, got {seeds}")
    if probe and (baselines or custom_head is not None):
        raise InputError(f"--probe and {'--baselines' if baselines else '--custom-head'} exclude each other")
    if probe and config.encoder_training != "frozen":
        raise InputError(f"--probe requires --encoder-training frozen, got {config.encoder_training}")
    if dataset is None and dataset_config is not None:
        raise InputError("--dataset-config requires --dataset")
    if dataset is None and train is None:
        raise InputError("--train is required: a file, or with --dataset a split")
    sources: dict[str, Any] = {"train": train, "dev": dev, "test": test}
    if dataset is not None:
        splits = {"train": train or "train", "dev": dev or "validation", "test": test}
        sources = {part: name and DatasetExamples(dataset, dataset_config, name) for part, name in splits.items()}
    folder: CacheFolder = False if no_cache else cache
    run = FinetuningRun.build(
        TaskExamples.read(task, **sources, columns=columns),
        encoder=encoder,
        inputs=input,
        head=head if custom_head is None else _load_head(custom_head, head),
        pretokenized=pretokenized,
        random_init=untrained,
    )
    if not (baselines or probe or seeds > 1):
        result = fit(
            run,
            config,
            out,
            cache=folder,
            refers_to_encoder=refer_to_encoder,
            overwrite=overwrite,
            show_progress=not quiet,
        )
        print(f"{result.describe()}\nmodel: {result.folder}\nnext: elmolite predict {out} --input FILE")
        return
    runs = probes(run) if probe else baseline_runs(run) if baselines else {task: run}
    comparison = compare(
        runs, config, out=out, n_seeds=seeds, cache=folder, overwrite=overwrite, show_progress=not quiet
    )
    if probe:
        draw_profile(comparison, run.elmo.n_layers, out / "profile.png")
    print(f"{comparison.describe()}\nruns: {out}/*")


def _parse_finetune(words: Sequence[str]) -> dict[str, Any]:
    """Parse the task, which comes first, and the options, of which ``--head.*`` depend on it."""
    from elmolite.cli.options import CommandParser
    from elmolite.tasks.config import HEAD_CONFIGS

    task = words[0] if words else "-"
    if task in ("-h", "--help"):
        lines = [f"  {name:<10} {kind.summary}" for name, kind in HEAD_CONFIGS.items()]
        print("\n".join(["usage: elmolite finetune TASK ...\n", *lines, "\nelmolite finetune TASK --help tells more."]))
        raise SystemExit(0)
    if task.startswith("-"):
        raise InputError(f"the task must come first: {', '.join(HEAD_CONFIGS)}; see elmolite finetune --help")
    if task not in HEAD_CONFIGS:
        raise InputError(f"unknown task {task!r}{nearest(task, HEAD_CONFIGS)}")
    parser = CommandParser(f"finetune {task}", finetune, fixed={"task": task}, kinds={"head": HEAD_CONFIGS[task]})
    return parser.arguments(parser.parse(words[1:]))


def _load_head(reference: str, head: Any = None) -> Callable[..., Any]:
    from elmolite.tasks.checkpoint import load_custom_head

    if head is not None and head != type(head)():
        raise InputError("--custom-head and --head.* exclude each other: --head.* are settings of elmolite's heads")
    return load_custom_head(reference)


def predict(
    model: str,
    *,
    input_: str,
    output: Path | None = None,
    pretokenized: bool = False,
    custom_head: str | None = None,
    encoder: str | None = None,
    columns: ExampleColumns,
) -> None:
    """Predict the labels of a file's sentences, with their probabilities, as JSON lines.

    :param model: folder made by elmolite finetune
    :param input_: sentences, with or without labels, or - for standard input
    :param output: file for the JSON lines (default: standard output)
    :param pretokenized: split plain text at white space
    :param custom_head: the model's custom head, as FILE.py:NAME
    :param encoder: language model, if it is not in the folder
    """
    if output is not None and output.resolve() == Path(input_).resolve():
        raise InputError(f"--output {output}: must not be the input")

    from elmolite.tasks.predict import predict_file
    from elmolite.utils import files

    is_other_encoding = output is None and (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8"
    head = None if custom_head is None else _load_head(custom_head)
    records = predict_file(model, input_, columns, head=head, encoder=encoder, pretokenized=pretokenized)
    lines = (json.dumps(record, ensure_ascii=is_other_encoding) + "\n" for record in records)
    if output is None:
        sys.stdout.writelines(lines)
        return
    with files.writing(output) as file:
        n_examples = sum(1 for line in lines if file.write(line.encode()))
    print(f"{output}: {n_examples:,} predictions")


def test(
    model: str,
    file: str,
    *,
    json_: bool = False,
    custom_head: str | None = None,
    encoder: str | None = None,
    columns: ExampleColumns,
) -> None:
    """Evaluate a trained task model on a labelled file.

    :param model: folder made by elmolite finetune
    :param file: labelled examples
    :param json_: print one JSON object
    :param custom_head: the model's custom head, as FILE.py:NAME
    :param encoder: language model, if it is not in the folder
    """
    from elmolite.tasks.predict import evaluate_file

    head = None if custom_head is None else _load_head(custom_head)
    scores = evaluate_file(model, file, columns, head=head, encoder=encoder)
    print(json.dumps(scores.as_dict()) if json_ else f"{scores.describe()}\n{scores.name} {scores.value:.4f}")


def info(name: str | None = None, *, verify: bool = False, runtime: bool = False) -> None:
    """Describe a model, a corpus or a preset; without a name, list the presets.

    :param name: model folder, released model, corpus folder or preset
    :param verify: verify the checksums of all files of a corpus, which reads them whole
    :param runtime: show the device, threads and versions of this machine
    """
    from elmolite.cli.info import describe_model, describe_presets, describe_runtime
    from elmolite.data.corpus import SUMMARY_FILE, Corpus

    is_corpus = name is not None and (Path(name) / SUMMARY_FILE).is_file()
    if verify and not is_corpus:
        raise InputError(f"--verify requires a corpus folder, got {name}")
    if runtime:
        print(describe_runtime())
    if name is None:
        if not runtime:
            print(describe_presets())
    elif is_corpus:
        corpus = Corpus.open(name)
        print(corpus.describe())
        if verify:
            corpus.verify()
            print(f"verified   {len(corpus.summary['files'])} files")
    else:
        print(describe_model(name))


def demo(*, size: Literal["full", "smoke"] = "full", out: Path = Path("runs/demo")) -> None:
    """Run the demonstration: from the documentation of Python and its packages to a model, its vectors, and a task.

    :param size: smoke: everything, in seconds
    :param out: folder for the results
    """
    from elmolite.demo.run import run

    run(out, size=size)


COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "pretrain": pretrain,
    "evaluate": evaluate,
    "embed": embed,
    "neighbours": neighbours,
    "convert": convert,
    "finetune": finetune,
    "predict": predict,
    "test": test,
    "info": info,
    "demo": demo,
}
PARSERS: dict[str, Callable[[Sequence[str]], dict[str, Any]]] = {
    "pretrain": _parse_pretrain,
    "finetune": _parse_finetune,
}
"""Commands with options that depend on other options."""
