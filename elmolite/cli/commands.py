"""The commands: functions whose parameters are the options, and the table of them.

A command is one function here and one line in :data:`COMMANDS`; its help has examples and groups of options in
:mod:`elmolite.cli.help`. It returns a :class:`Result`, which :func:`elmolite.cli.main.main` prints. Modules are
imported by the command that needs them, so that ``elmolite --help`` answers at once, and what can be checked without
torch is checked before it is imported.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from elmolite.errors import InputError, Terminated, exit_code, nearest
from elmolite.utils.console import n_of

if TYPE_CHECKING:
    from elmolite import BiLMConfig, ExampleColumns, FinetuningConfig, InputConfig, PretrainingConfig
    from elmolite.cli.options import CommandParser, Invocation
    from elmolite.data.corpus import Corpus
    from elmolite.embedding.batching import LayerSelection

DEFAULT_PRESET = "mini"


class Result(NamedTuple):
    """Result of a command."""

    text: str
    """For standard output."""
    values: Any
    """For ``--json``."""
    next: str = ""
    """The command that a user may want to run next."""


@contextmanager
def _if_interrupted(advice: str) -> Iterator[None]:
    """Say what to do after Ctrl-C or SIGTERM in the block, unless the exception says so itself."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Terminated) or not error.args:
            error.args = (f"{str(error) or 'interrupted'}; {advice}",)
        raise


def _check_inputs(
    *files: str | None, model: str | None = None, task: str | None = None, text: Sequence[str] | None = None
) -> None:
    """Check that inputs exist, before torch is imported."""
    from elmolite.data.text import check_file, find_files
    from elmolite.hub import model_folder, task_folder

    for file in files:
        if file is not None:
            check_file(file)
    if model is not None and not Path(model).is_file():
        model_folder(model)
    if task is not None:
        task_folder(task)
    if text is not None:
        find_files(text)


def _quoted(*words: object) -> str:
    return shlex.join(map(str, words))


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
) -> Result:
    """Tokenize text into a corpus folder with its vocabulary.

    :param text: Text files, folders, globs, .gz files, or - for standard input.
    :param out: Corpus folder to write.
    :param valid: Validation text (default: every hundredth document of the text).
    :param pretokenized: Input with one sentence per line and spaces between tokens.
    :param vocab_size: Maximum number of words of the softmax, including 3 special ones.
    :param min_count: Minimum count of a word in the vocabulary (default: 2).
    :param characters: Characters that the model reads; unicode suits scripts with several bytes per character.
    :param min_character_count: Minimum count of a Unicode character; rarer ones are unknown (default: 5).
    :param vocab: Vocabulary file, one word per line.
    :param workers: Number of processes (default: one per core).
    :param overwrite: Replace an existing corpus folder.
    :param dataset: Hugging Face dataset to read instead of TEXT: a name on the hub, or a folder of data files.
    :param dataset_config: Configuration of the dataset.
    :param dataset_split: Split of the dataset (default: train).
    :param dataset_column: Column with the text (default: text).
    :param streaming: Read the dataset row by row, without storing it.
    :param valid_split: Split of the dataset with the validation text.
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

    with _if_interrupted("nothing was written"):
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
    following = _quoted(
        "elmolite", "pretrain", "--corpus", out, "--preset", DEFAULT_PRESET, "--out", f"runs/{DEFAULT_PRESET}"
    )
    return Result(corpus.describe(), corpus_values(corpus), following)


def corpus_values(corpus: Corpus) -> dict[str, Any]:
    """Return the statistics of a corpus, for ``--json``."""
    statistics = {name: value for name, value in corpus.summary.items() if name not in ("files", "format_version")}
    return {"corpus": str(corpus.folder), **statistics}


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
) -> Result | None:
    """Pretrain a bidirectional language model on a prepared corpus.

    :param corpus: Corpus folder made by elmolite prepare.
    :param out: Run folder: log, checkpoints and the model.
    :param resume: Continue the run in --out with its settings.
    :param keep_last: Number of checkpoints to keep.
    :param dry_run: Estimate time and memory from a few steps, and stop.
    :param init_from: Model to start from (domain adaptation). Its sizes are kept; the corpus may have other words.
    :param preset: Sizes of the model: tiny, mini, small, medium or original (default: mini).
    """
    assert corpus is not None  # as checked with the other options
    if not _is_launched():  # with several ranks, the checks that follow are made on all of them
        _check_run_folders(corpus, out, resume=resume or dry_run)
    if dry_run or out is None:
        from elmolite.pretraining.distributed import is_rank_zero
        from elmolite.pretraining.estimate import estimate

        found = estimate(config, model=model, corpus=corpus, init_from=init_from)
        return Result(found.describe(), found.as_dict()) if is_rank_zero() else None

    from elmolite.hub import MODEL_MANIFEST
    from elmolite.pretraining.checkpointing import TrainingCheckpoints, step_of
    from elmolite.pretraining.distributed import is_rank_zero
    from elmolite.pretraining.trainer import pretrain as train
    from elmolite.utils import files
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
    if not is_rank_zero():
        return None
    best = files.read_json(folder / MODEL_MANIFEST, kind="model")["training"]
    values = {
        "model": str(folder),
        "n_steps": step_of(TrainingCheckpoints(out).paths()[0]),
        "best_step": best["step"],
        "validation_perplexity": best["held_out_perplexity"],
    }
    following = _quoted("elmolite", "embed", folder, "--input", "FILE", "--output", "vectors.npz")
    return Result(f"model: {folder}", values, following)


def _check_run_folders(corpus: Path, out: Path | None, *, resume: bool) -> None:
    """Check that the corpus exists, and that no new run is started where one is, before torch is imported."""
    from elmolite.data.corpus import SUMMARY_FILE
    from elmolite.utils import folders

    if not (folders.resolve_committed(corpus) / SUMMARY_FILE).exists():
        problem = "not a corpus: make one with elmolite prepare" if corpus.exists() else "no such corpus folder"
        raise InputError(f"{corpus}: {problem}")
    if out is not None:
        folders.check_writable(out)
        if not resume and any(out.glob("*/step-*.ckpt")):
            raise InputError(f"{out} already contains a run: continue it with --resume, or choose another --out")


def _parse_pretrain(words: Sequence[str]) -> Invocation:
    """Parse the options on all ranks, and check the ones that a recipe for Python has not."""
    on_all_ranks: AbstractContextManager[None] = nullcontext()
    if _is_launched():
        from elmolite.pretraining.distributed import join_process_group, reraise_on_all_ranks

        join_process_group()
        on_all_ranks = reraise_on_all_ranks()
    with on_all_ranks:
        parser, found = _pretrain_invocation(words)
        corpus, out = found.arguments["corpus"], found.arguments["out"]
        if found.arguments["resume"] and corpus is None and out is not None:
            raise InputError(f"{out}: nothing to resume; start without --resume")
        needed = ("corpus",) if found.arguments["dry_run"] else ("corpus", "out")
        if missing := [name for name in needed if found.arguments[name] is None]:
            raise InputError(parser.missing(missing))
    return found


def _is_launched() -> bool:
    """Tell whether torchrun or SLURM started this process."""
    return not os.environ.keys().isdisjoint(("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"))


def _pretrain_invocation(words: Sequence[str]) -> tuple[CommandParser, Invocation]:
    """Parse the options twice: the preset, the model to start from and the run to resume choose the other defaults."""
    from elmolite.cli.options import CommandParser
    from elmolite.nn.config import PRESETS
    from elmolite.pretraining.config import RUN_FILE, read_run_config

    parser = CommandParser("pretrain", pretrain)

    def set_sizes(model: Mapping[str, Any]) -> None:
        parser.set_defaults({f"model.{name}": value for name, value in model.items()})

    set_sizes(asdict(PRESETS[DEFAULT_PRESET]()))
    values = parser.parse(words)
    if values.init_from is not None:
        if values.preset is not None:
            raise InputError("--preset and --init-from exclude each other: the model to start from has its own sizes")
        _check_inputs(model=values.init_from)
        from elmolite.checkpoint import read_config

        set_sizes(asdict(read_config(Path(values.init_from))))
    elif values.preset is not None:
        if values.preset not in PRESETS:
            raise InputError(f"unknown preset {values.preset!r}{nearest(values.preset, PRESETS)}")
        set_sizes(asdict(PRESETS[values.preset]()))
    if values.resume and values.out is not None and (Path(values.out) / RUN_FILE).is_file():
        record = read_run_config(Path(values.out))
        set_sizes(record.get("model", {}))
        parser.set_defaults({"corpus": record.get("corpus_folder"), **record["training"]})
    return parser, parser.invocation(parser.parse(words))


def load_recipe(path: str | Path) -> tuple[BiLMConfig, PretrainingConfig]:
    """Read a configuration file as ``elmolite pretrain --config`` does.

    >>> sizes, settings = load_recipe("mini")
    >>> sizes.cell_size
    512

    :param path: a YAML file, or the name of a recipe that comes with the package, such as ``"mini"``.
    :returns: the sizes and the training settings, as :func:`elmolite.pretrain` takes them.
    :raises InputError: it cannot be read, has an unknown key, an argument of :func:`elmolite.pretrain`, or an invalid
        value.
    """
    from elmolite.cli.options import read_config, recipe_path

    for name in read_config(recipe_path(str(path), "pretrain")):
        if name in inspect.signature(pretrain).parameters.keys() - {"config", "model", "preset", "quiet"}:
            raise InputError(f"{path}: {name!r} is not a setting of a recipe; give it to pretrain()")
    _, found = _pretrain_invocation(["--config", str(path)])
    return found.arguments["model"], found.arguments["config"]


def evaluate(model: str, text: Sequence[str], *, quiet: bool = False) -> Result:
    """Compute a model's perplexity on a text.

    :param model: Language model with its softmax: a model folder or a released model.
    :param text: Text files, folders, globs, .gz files, or - for standard input.
    """
    _check_inputs(model=model, text=text)
    from elmolite.pretraining.evaluation import evaluate_text

    result = evaluate_text(model, text, show_progress=not quiet)
    return Result(result.describe(), result.as_dict())


def embed(
    model: str,
    *,
    input_: str,
    output: Path,
    layers: str = "all",
    batch_tokens: int | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    precision: Literal["32-true", "bf16-mixed", "int8"] = "32-true",
    pretokenized: bool = False,
    quiet: bool = False,
) -> Result:
    """Write the vectors of a file's sentences, one sentence per line.

    :param model: Language model: a model folder, a released model or a model of an earlier system.
    :param input_: Text file with one sentence per line, or - for standard input.
    :param output: FILE.npz, FILE.h5, or a folder, in which an interrupted run can be resumed.
    :param layers: Layers: all, top, average, or the number of one.
    :param batch_tokens: Maximum number of tokens per batch; by default 4,096, and 16,384 on a GPU.
    :param dtype: Type on disk; bfloat16 in a folder only.
    :param precision: Precision of matrix products; bf16-mixed is faster where the processor has bfloat16, int8 on any
        CPU with a large model.
    :param pretokenized: Split lines at white space instead of using the model's tokenizer.
    """
    _check_inputs(input_, model=model)
    from elmolite.embedding.output import FILE_WRITERS, embed_file

    is_file = output.suffix in FILE_WRITERS
    advice = "nothing was written (a folder can be resumed)" if is_file else "run the same command again to continue"
    with _if_interrupted(advice):
        written = embed_file(
            model,
            input_,
            output,
            layers=_layers(layers),
            batch_tokens=batch_tokens,
            dtype=dtype,
            pretokenized=pretokenized,
            precision=precision,
            show_progress=not quiet,
        )
    return Result(f"{output}: {written.describe()}", {"output": str(output), **asdict(written)})


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
    quiet: bool = False,
) -> Result:
    """Find the tokens of a text that are most similar to a word in its sentence.

    :param model: Language model: a model folder or a released model.
    :param text: Text files, folders, globs, .gz files, or - for standard input.
    :param query: Sentence with the word in brackets: 'they robbed a [bank]'; can be given several times.
    :param layers: Layers: top, average, or the number of one.
    :param n: Number of neighbours of each query.
    :param max_sentences: Maximum number of sentences read from the text.
    """
    if n < 1:
        raise InputError(f"-n must be positive, got {n}")
    _check_inputs(model=model, text=text)
    from itertools import islice

    from elmolite.data.text import find_files, read_documents
    from elmolite.embedding.elmo import ELMo
    from elmolite.embedding.neighbours import NeighbourIndex, parse_query
    from elmolite.utils.torch import best_device

    elmo = ELMo.from_pretrained(model).to(best_device())
    queries = [parse_query(each, elmo) for each in query]
    lines = (line for document in read_documents(find_files(text)) for line in document)
    sentences = (sentence for line in lines for sentence in elmo.tokenizer.sentences(line))
    index = NeighbourIndex(
        elmo, list(islice(sentences, max_sentences)), layers=_layers(layers), show_progress=not quiet
    )
    values = [
        {
            "query": asdict(each),
            "neighbours": [{"cosine": cosine, **asdict(found)} for cosine, found in index.nearest(each, n)],
        }
        for each in queries
    ]
    return Result("\n\n".join(index.describe(each, n) for each in queries), values)


def convert(
    src: str,
    dst: Path,
    *,
    weights: str | None = None,
    tokenizer: Literal["whitespace", "english"] | None = None,
    overwrite: bool = False,
) -> Result:
    """Convert a model of an earlier system to a model folder, or a model folder to HDF5.

    :param src: Model of AllenNLP, bilm-tf, NLPL or ELMoForManyLangs (folder, zip archive, options or weights file), or
        a model folder.
    :param dst: Folder to write.
    :param weights: Weights file (HDF5), if it is not next to the options file SRC.
    :param tokenizer: Tokenizer of the new model (default: whitespace, as in the earlier systems).
    :param overwrite: Replace an existing model folder.
    """
    _check_inputs(weights, model=None if Path(src).exists() else src)
    from elmolite.checkpoint import convert as convert_model
    from elmolite.data.tokenization import SentenceTokenizer

    chosen = None if tokenizer is None else getattr(SentenceTokenizer, tokenizer)()
    written = convert_model(src, dst, weights=weights, tokenizer=chosen, overwrite=overwrite)
    return Result(f"{dst}: {written}", {"output": str(dst), "format": written})


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
) -> Result:
    """Train a classifier, tagger or entailment model on the layers of a language model.

    :param encoder: Language model: a model folder or a released model.
    :param train: Training examples: a file, or with --dataset a split (default: train).
    :param dev: Validation examples, which choose the epoch (default: every tenth training example; with --dataset:
        validation).
    :param test: Test examples, scored at the end.
    :param out: Run folder: the model, its scores and plots.
    :param dataset: Hugging Face dataset to read instead of files: a name on the hub, or a folder.
    :param dataset_config: Configuration of the dataset.
    :param custom_head: Custom head: a factory that takes the input width and the number of labels.
    :param cache: Folder for the layers of a frozen language model (default: the user's cache).
    :param no_cache: Compute the layers of a frozen language model in every epoch.
    :param seeds: Number of seeds to train with, for mean and standard deviation.
    :param untrained: Give the language model random weights: the baseline for pretraining.
    :param baselines: Compare with baselines: untrained, single layers, static vectors.
    :param probe: Compare linear classifiers on each layer and on the mix, of the model and of an untrained one.
    :param pretokenized: Split sentences at white space instead of using the model's tokenizer.
    :param refer_to_encoder: Do not copy the language model into --out; predict and test then need --encoder.
    :param overwrite: Replace the results of an earlier run in --out.
    """
    if cache is not None and no_cache:
        raise InputError("--cache and --no-cache exclude each other")
    if probe and (baselines or custom_head is not None):
        raise InputError(f"--probe and {'--baselines' if baselines else '--custom-head'} exclude each other")
    if probe and config.encoder_training != "frozen":
        raise InputError(f"--probe requires --encoder-training frozen, got {config.encoder_training}")
    if dataset is None and dataset_config is not None:
        raise InputError("--dataset-config requires --dataset")
    if dataset is None and train is None:
        raise InputError("--train is required: a file, or with --dataset a split")
    from elmolite.utils import folders

    examples = {"train": train, "dev": dev, "test": test}
    _check_inputs(*(examples.values() if dataset is None else ()), model=encoder)
    folders.check_writable(out)
    if not overwrite and (written := next((out / name for name in _RESULTS if (out / name).exists()), None)):
        raise InputError(f"{written} exists already: choose another folder for --out, or pass --overwrite")
    from elmolite.tasks.compare import baselines as baseline_runs, compare, draw_profile, probes
    from elmolite.tasks.examples.sources import DatasetExamples, TaskExamples
    from elmolite.tasks.finetune import CacheFolder, FinetuningRun, fit

    sources: dict[str, Any] = examples
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
    if not (baselines or probe) and seeds == 1:
        result = fit(
            run,
            config,
            out,
            cache=folder,
            refers_to_encoder=refer_to_encoder,
            overwrite=overwrite,
            show_progress=not quiet,
        )
        text = f"{result.describe()}\nmodel: {result.folder}"
        values = {"model": str(result.folder), **result.as_dict()}
        return Result(text, values, _quoted("elmolite", "predict", out, "--input", "FILE"))
    runs = probes(run) if probe else baseline_runs(run) if baselines else {task: run}
    with _if_interrupted(f"the finished runs are in {out}"):
        comparison = compare(
            runs, config, out=out, n_seeds=seeds, cache=folder, overwrite=overwrite, show_progress=not quiet
        )
    if probe:
        draw_profile(comparison, run.elmo.n_layers, out / "profile.png")
    return Result(f"{comparison.describe()}\nruns: {out}/*", {"runs": str(out), "scores": comparison.as_dict()})


_RESULTS = ("model", "comparison.json")
"""What :func:`finetune` writes last; without ``--overwrite``, a folder with one of them is refused."""


def _parse_finetune(words: Sequence[str]) -> Invocation:
    """Parse the task, which comes first, and the options, of which ``--head.*`` depend on it."""
    from elmolite.cli.help import epilog
    from elmolite.cli.options import CommandParser
    from elmolite.tasks.config import HEAD_CONFIGS

    task = words[0] if words else "-"
    usage = f"elmolite finetune {{{','.join(HEAD_CONFIGS)}}} --encoder MODEL --train FILE --out FOLDER [options]"
    if task in ("-h", "--help", "--help-all"):
        tasks = [f"  {name:<10} {kind.summary}" for name, kind in HEAD_CONFIGS.items()]
        end = ["", *epilog("finetune", has_more=False).splitlines()]
        print("\n".join([f"usage: {usage}", "", "Tasks:", *tasks, "", "Options: elmolite finetune TASK --help", *end]))
        raise SystemExit(0)
    if task.startswith("-"):
        raise InputError(f"the task must come first: {', '.join(HEAD_CONFIGS)}: {usage}; see elmolite finetune --help")
    if task not in HEAD_CONFIGS:
        raise InputError(f"unknown task {task!r}{nearest(task, HEAD_CONFIGS)}")
    parser = CommandParser(f"finetune {task}", finetune, fixed={"task": task}, kinds={"head": HEAD_CONFIGS[task]})
    return parser.invocation(parser.parse(words[1:]))


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
    quiet: bool = False,
    json_: bool = False,
    columns: ExampleColumns,
) -> Result | None:
    """Predict the labels of a file's sentences, with their probabilities, as JSON lines.

    :param model: Run folder or task folder made by elmolite finetune, or a released task.
    :param input_: File of sentences, with or without labels, or - for standard input.
    :param output: File for the JSON lines (default: standard output).
    :param pretokenized: Split plain text at white space.
    :param custom_head: The model's custom head.
    :param encoder: Language model, if it is not in the folder.
    """
    if output == Path("-"):
        output = None
    if output is not None and output.resolve() == Path(input_).resolve():
        raise InputError(f"--output {output}: must not be the input")
    _check_inputs(input_, task=model)

    from elmolite.tasks.predict import predict_file
    from elmolite.utils import files

    is_other_encoding = output is None and (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8"
    head = None if custom_head is None else _load_head(custom_head)
    records = predict_file(
        model, input_, columns, head=head, encoder=encoder, pretokenized=pretokenized, show_progress=not quiet
    )
    if json_ and output is None:
        return Result("", {"predictions": list(records)})
    lines = (json.dumps(record, ensure_ascii=is_other_encoding) + "\n" for record in records)
    if output is None:
        sys.stdout.writelines(lines)
        return None
    with _if_interrupted("nothing was written"), files.writing(output) as file:
        n_examples = sum(1 for line in lines if file.write(line.encode()))
    return Result(f"{output}: {n_of(n_examples, 'prediction')}", {"output": str(output), "n_predictions": n_examples})


def test(
    model: str,
    file: str,
    *,
    custom_head: str | None = None,
    encoder: str | None = None,
    quiet: bool = False,
    columns: ExampleColumns,
) -> Result:
    """Evaluate a fine-tuned model on labelled data.

    :param model: Run folder or task folder made by elmolite finetune, or a released task.
    :param file: File of labelled examples, or - for standard input.
    :param custom_head: The model's custom head.
    :param encoder: Language model, if it is not in the folder.
    """
    _check_inputs(file, task=model)
    from elmolite.tasks.predict import evaluate_file

    head = None if custom_head is None else _load_head(custom_head)
    scores = evaluate_file(model, file, columns, head=head, encoder=encoder, show_progress=not quiet)
    headline = "" if scores.name == "accuracy" else f"\n{scores.name} {scores.value:.4f}"  # accuracy is in the table
    return Result(f"{scores.describe()}{headline}", scores.as_dict())


def info(name: str | None = None, *, verify: bool = False, runtime: bool = False, quiet: bool = False) -> Result:
    """Describe a model, a task, a corpus, a preset or a recipe; without a name, list the ones of elmolite.

    :param name: Folder of a model, a fine-tuned task or a corpus; or the name of a released model or task, a preset or
        a recipe.
    :param verify: Verify the checksums of all files of a corpus, which reads them whole.
    :param runtime: Show the device, threads and versions of this machine.
    """
    from elmolite.cli.options import names
    from elmolite.data.corpus import SUMMARY_FILE, Corpus
    from elmolite.hub import HUB_NAME, find_task

    is_corpus = name is not None and (Path(name) / SUMMARY_FILE).is_file()
    if verify and not is_corpus:
        raise InputError("--verify requires a corpus folder" + (f", got {name}" if name else ""))
    known = {each for of_kind in names().values() for each in of_kind}
    if name is not None and not is_corpus and name not in known and find_task(name) is None:
        if not Path(name).exists() and not HUB_NAME.fullmatch(name):
            raise InputError(f"{name}: no such folder or name{nearest(name, known)}")
        _check_inputs(model=name)
    from elmolite.cli import info as descriptions

    parts = [descriptions.runtime()] if runtime else []
    if name is None and not runtime:
        parts.append(descriptions.catalogue())
    elif name is not None and is_corpus:
        corpus = Corpus.open(name)
        text, values = corpus.describe(), corpus_values(corpus)
        if verify:
            corpus.verify(show_progress=False if quiet else None)
            text, values = f"{text}\nverified    {len(corpus.summary['files'])} files", {**values, "verified": True}
        parts.append((text, values))
    elif name is not None:
        parts.append(descriptions.named(name))
    return Result("\n".join(text for text, _ in parts), {key: each for _, part in parts for key, each in part.items()})


def demo(*, size: Literal["full", "smoke"] = "full", out: Path = Path("runs/demo"), overwrite: bool = False) -> Result:
    """Run the demonstration: a released model, a new one trained on docstrings, a task, a report.

    Interrupted, it continues with the same command.

    :param size: Size of the demonstration; smoke: everything, in seconds.
    :param out: Folder for the results.
    :param overwrite: Begin anew, and replace an earlier demonstration.
    """
    from elmolite.demo.run import run

    values = run(out, size=size, overwrite=overwrite)
    return Result(f"Open      {values['report']}", values)


def completion(shell: Literal["bash", "zsh", "fish"]) -> Result:
    """Print a completion script for a shell.

    :param shell: Shell: bash, zsh or fish.
    """
    from elmolite.cli.completion import script

    text = script(shell)
    return Result(text, {"shell": shell, "script": text})


COMMANDS: dict[str, Callable[..., Result | None]] = {
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
    "completion": completion,
}
PARSERS: dict[str, Callable[[Sequence[str]], Invocation]] = {
    "pretrain": _parse_pretrain,
    "finetune": _parse_finetune,
}
"""Commands with options that depend on other options."""
