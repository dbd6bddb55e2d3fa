"""The subcommands, each one call into the module that does the work; those of tasks are in ``task_commands``.

The modules are imported where a subcommand needs them, so that ``elmolite --help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elmolite.errors import InputError, exit_code, nearest

if TYPE_CHECKING:
    from elmolite.data.hf_datasets import DatasetText
    from elmolite.embedding.layer_choice import LayerChoice


class _Parser(argparse.ArgumentParser):
    """Raises what it finds wrong, and names the nearest option to a wrong one."""

    def error(self, message: str) -> Any:
        """Turn a usage error into the one kind of error that :func:`main` shows."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            name = message.removeprefix(prefix).split()[0].split("=")[0]
            message = f"unknown argument {name}{nearest(name, self._option_string_actions)}"
        raise InputError(f"{message}\n{self.format_usage().rstrip()}")


def _parser(command: str, description: str) -> _Parser:
    return _Parser(prog=f"elmolite {command}", description=description, allow_abbrev=False)


def prepare(arguments: Sequence[str]) -> None:
    """Text -> a tokenised corpus with its vocabulary."""
    parser = _parser("prepare", prepare.__doc__ or "")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="files, folders, globs, .gz, or - for standard input")
    _add_dataset_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the corpus folder to make")
    parser.add_argument("--valid", nargs="+", default=[], metavar="TEXT", help="held-out text (default: set aside)")
    parser.add_argument(
        "--pretokenized",
        action="store_true",
        help="one sentence a line, spaces between tokens; also for languages that write no spaces",
    )
    parser.add_argument("--vocab-size", type=int, metavar="N", help="words of the softmax, 3 specials included")
    parser.add_argument("--min-count", type=int, metavar="N", help="leave rarer words out (default: 2)")
    parser.add_argument(
        "--characters",
        choices=("bytes", "unicode"),
        default="bytes",
        help="what a model reads words as (default: bytes); unicode: for scripts of several bytes a character",
    )
    parser.add_argument(
        "--min-character-count", type=int, metavar="N", help="rarer Unicode characters count as unknown (default: 5)"
    )
    parser.add_argument("--vocab", type=Path, metavar="FILE", help="a given vocabulary, one word a line")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: at least 1 is needed")

    text, valid = _texts(options)

    from elmolite.data.prepare import prepare as run
    from elmolite.data.tokenization import SentenceTokenizer
    from elmolite.data.vocab import Vocabulary

    corpus = run(
        text,
        options.out,
        valid=valid,
        tokenizer=SentenceTokenizer.whitespace() if options.pretokenized else SentenceTokenizer.english(),
        vocab_size=options.vocab_size,
        min_count=options.min_count,
        vocabulary=None if options.vocab is None else Vocabulary.load(options.vocab),
        characters=options.characters,
        min_character_count=options.min_character_count,
        n_workers=options.workers,
        overwrite=options.overwrite,
    )
    print(corpus.describe())
    print(f"next: elmolite pretrain --corpus {options.out} --preset mini --out runs/mini")


def _add_dataset_options(parser: _Parser) -> None:
    group = parser.add_argument_group("a Hugging Face dataset in place of TEXT")
    group.add_argument("--dataset", metavar="NAME", help="on the hub, or a folder of parquet, JSON, CSV or text files")
    group.add_argument("--dataset-config", metavar="NAME", help="which one, of a dataset that has several")
    group.add_argument("--dataset-split", metavar="NAME", help="default: train")
    group.add_argument("--dataset-column", metavar="NAME", help="of the text (default: text)")
    group.add_argument("--streaming", action="store_true", help="read rows when they are needed and keep none")
    group.add_argument("--valid-split", metavar="NAME", help="held-out text: another split of the dataset")


def _texts(options: argparse.Namespace) -> tuple[list[str] | DatasetText, list[str] | DatasetText]:
    """Return the text and the held-out text, as files or as splits of a dataset."""
    fields = {"config": options.dataset_config, "split": options.dataset_split, "column": options.dataset_column}
    given = {name: value for name, value in fields.items() if value is not None}
    if options.dataset is None:
        needless = [f"--dataset-{name}" for name in given]
        needless += ["--streaming"] * options.streaming + ["--valid-split"] * (options.valid_split is not None)
        if needless:
            raise InputError(f"{needless[0]}: has a meaning only beside --dataset")
        if not options.text:
            raise InputError("no text was given: name files, folders, patterns or - for standard input, or a --dataset")
        return options.text, options.valid
    if options.text:
        raise InputError(f"TEXT ({options.text[0]}) and --dataset exclude each other")
    if options.valid and options.valid_split is not None:
        raise InputError("--valid and --valid-split exclude each other")

    from elmolite.data.hf_datasets import DatasetText

    text = DatasetText(options.dataset, streaming=options.streaming, **given)
    return text, options.valid if options.valid_split is None else replace(text, split=options.valid_split)


def pretrain(arguments: Sequence[str]) -> None:
    """Pretrain a bidirectional language model on a prepared corpus."""
    from elmolite.cli.pretrain_options import parse
    from elmolite.pretraining.distributed import is_first, join_process_group, raising_together

    join_process_group()
    with raising_together():
        options = parse(arguments)

    if options.plan or options.out is None:
        from elmolite.pretraining.estimate import plan

        planned = plan(options.config, model=options.model, corpus=options.corpus, init_from=options.init_from)
        if is_first():
            print(planned.describe())
        return

    from elmolite.pretraining.trainer import pretrain as run
    from elmolite.utils.torch import keep_freed_memory

    keep_freed_memory()
    try:
        model = run(
            options.config,
            model=options.model,
            corpus=options.corpus,
            out=options.out,
            init_from=options.init_from,
            resume=options.resume,
            keep_last=options.keep_last,
        )
    except KeyboardInterrupt as error:
        if is_first():
            raise
        raise SystemExit(exit_code(error)) from None
    if is_first():
        print(f"model: {model}\nnext: elmolite embed {model} --input TEXT --output vectors.npz")


def evaluate(arguments: Sequence[str]) -> None:
    """Perplexity of a model on a text: each direction and both, over running text and sentence by sentence."""
    parser = _parser("evaluate", evaluate.__doc__ or "")
    parser.add_argument("model", metavar="MODEL", help="a model folder with its softmax")
    parser.add_argument("text", nargs="+", metavar="TEXT", help="files, folders, globs, .gz, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)

    from elmolite.pretraining.evaluation import evaluate_text

    result = evaluate_text(options.model, options.text, show_progress=not options.json)
    if options.json:
        print(json.dumps(result.as_dict()))
    else:
        print(result.describe())


def _layers(text: str) -> LayerChoice:
    """Read the choice of layers; what is wrong, :meth:`ELMo.embed` says."""
    choice: LayerChoice = int(text) if text.isdecimal() else text  # type: ignore[assignment]
    return choice


def embed(arguments: Sequence[str]) -> None:
    """Vectors of the sentences of a file, one a line: into a folder that can be resumed, or an .npz or .h5 file."""
    parser = _parser("embed", embed.__doc__ or "")
    parser.add_argument("model", metavar="MODEL", help="a model folder, a released or an earlier model")
    parser.add_argument("--input", required=True, metavar="FILE", help="text, one sentence a line, or -")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="a folder, FILE.npz or FILE.h5")
    parser.add_argument("--layers", default="all", help="all, top, average, or the number of one (default: all)")
    parser.add_argument("--batch-tokens", type=int, default=4096, metavar="N", help="computed at once (default: 4096)")
    parser.add_argument("--dtype", default="float32", help="on disk: float32, float16 or, in a folder, bfloat16")
    parser.add_argument("--precision", default="32-true", help="of computing: 32-true or the faster bf16-mixed")
    parser.add_argument(
        "--pretokenized", action="store_true", help="cut lines at spaces, whatever the model's text was"
    )
    options = parser.parse_args(arguments)

    from elmolite.embedding.embedding_files import embed_file

    written = embed_file(
        options.model,
        options.input,
        options.output,
        layers=_layers(options.layers),
        batch_tokens=options.batch_tokens,
        dtype=options.dtype,
        pretokenized=options.pretokenized,
        precision=options.precision,
    )
    print(f"{options.output}: {written.describe()}")


def convert(arguments: Sequence[str]) -> None:
    """Turn a model of AllenNLP, bilm-tf, NLPL or ELMoForManyLangs into a model folder, or a model folder into HDF5."""
    parser = _parser("convert", convert.__doc__ or "")
    parser.add_argument("source", metavar="SRC", help="a folder or zip archive, a file with options or weights")
    parser.add_argument("destination", type=Path, metavar="DST", help="the folder to write")
    parser.add_argument("--weights", metavar="FILE", help="the HDF5 file, where SRC is a file with options elsewhere")
    parser.add_argument(
        "--tokenizer",
        choices=("whitespace", "english"),
        help="how the new model cuts strings (default: whitespace, as the earlier systems did)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier model folder")
    options = parser.parse_args(arguments)

    from elmolite.data.tokenization import SentenceTokenizer
    from elmolite.formats.convert import convert as convert_model

    written = convert_model(
        options.source,
        options.destination,
        weights=options.weights,
        tokenizer=None if options.tokenizer is None else getattr(SentenceTokenizer, options.tokenizer)(),
        overwrite=options.overwrite,
    )
    print(f"{options.destination}: {written}")


def neighbours(arguments: Sequence[str]) -> None:
    """Nearest neighbours in context: for a word in a sentence, the tokens of a text with the most similar vectors."""
    parser = _parser("neighbours", neighbours.__doc__ or "")
    parser.add_argument("model", metavar="MODEL", help="a model folder or a released model")
    parser.add_argument("text", nargs="+", metavar="TEXT", help="files, folders, globs, .gz, or - for standard input")
    parser.add_argument(
        "--query", action="append", required=True, metavar="'they robbed a [bank]'", help="may be given several times"
    )
    parser.add_argument("--layers", default="top", help="top, average, or the number of one (default: top)")
    parser.add_argument("-n", type=int, default=5, help="neighbours of each (default: 5)")
    parser.add_argument("--max-sentences", type=int, default=10_000, metavar="N", help="read so many (default: 10,000)")
    options = parser.parse_args(arguments)
    for name in ("n", "max_sentences"):
        if getattr(options, name) < 1:
            raise InputError(f"{name.replace('_', '-')} {getattr(options, name)}: at least 1 is needed")

    from itertools import islice

    from elmolite.data.text import find_files, read_documents
    from elmolite.embedding.elmo import ELMo
    from elmolite.embedding.neighbours import NeighbourIndex, marked_place
    from elmolite.utils.torch import best_device

    elmo = ELMo.from_pretrained(options.model).to(best_device())
    queries = [marked_place(query, elmo) for query in options.query]
    lines = (line for document in read_documents(find_files(options.text)) for line in document)
    sentences = (sentence for line in lines for sentence in elmo.tokenizer.sentences(line))
    index = NeighbourIndex(elmo, list(islice(sentences, options.max_sentences)), layers=_layers(options.layers))
    for query in queries:
        print(f"\n{index.describe(query, options.n)}")


def info(arguments: Sequence[str]) -> None:
    """Sizes of a model folder or a preset, of all presets without a name, and what computes on this machine."""
    parser = _parser("info", info.__doc__ or "")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model folder or a preset")
    parser.add_argument("--runtime", action="store_true", help="the device, threads and versions that compute")
    options = parser.parse_args(arguments)

    from elmolite.cli.info import describe_model, describe_presets, describe_runtime

    if options.runtime:
        print(describe_runtime())
    if options.model:
        print(describe_model(options.model))
    elif not options.runtime:
        print(describe_presets())


def demo(arguments: Sequence[str]) -> None:
    """From the documentation of Python and its packages to a trained model, its vectors, and tasks on them."""
    parser = _parser("demo", demo.__doc__ or "")
    parser.add_argument("--size", choices=("full", "smoke"), default="full", help="smoke: all of it, in seconds")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="FOLDER", help="default: runs/demo")
    options = parser.parse_args(arguments)

    from elmolite.demo.run import run

    run(options.out, size=options.size)
