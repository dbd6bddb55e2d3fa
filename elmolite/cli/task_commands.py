"""The subcommands of tasks: finetune, predict and test."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from elmolite.errors import InputError
from elmolite.utils import files

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from elmolite.cli.options import OptionsParser
    from elmolite.tasks.heads import HeadFactory


def finetune(arguments: Sequence[str]) -> None:
    """Train a classifier, a tagger or an entailment model on the layers of a language model."""
    from elmolite.cli.finetune_options import parse

    options = parse(arguments)

    from elmolite.tasks.compare import baselines, compare, draw_profile, probes
    from elmolite.tasks.finetune import run
    from elmolite.tasks.setup import TaskExamples, set_up

    examples = TaskExamples.read(
        options.task, train=options.train, dev=options.dev, test=options.test, columns=options.columns
    )
    setup = set_up(
        examples,
        encoder=options.encoder,
        inputs=options.inputs,
        head=options.head,
        pretokenized=options.pretokenized,
        is_untrained=options.untrained,
    )
    if not (options.baselines or options.probe or options.n_seeds > 1):
        result = run(
            setup,
            options.config,
            options.out,
            cache=options.cache,
            refers_to_encoder=options.refer_to_encoder,
            overwrite=options.overwrite,
        )
        print(result.describe())
        print(f"model: {result.folder}\nnext: elmolite predict {options.out} --input FILE")
        return
    ways = {str(options.task): setup}
    if options.probe or options.baselines:
        ways = probes(setup) if options.probe else baselines(setup)
    comparison = compare(
        ways,
        options.config,
        out=options.out,
        n_seeds=options.n_seeds,
        cache=options.cache,
        overwrite=options.overwrite,
    )
    if options.probe:
        draw_profile(comparison, setup.elmo.n_layers, options.out / "profile.png")
    print(f"\n{comparison.describe()}\nruns: {options.out}/*")


def predict(arguments: Sequence[str]) -> None:
    """Labels of the sentences of a file, with their probabilities, as JSON lines."""
    from elmolite.cli.options import Arguments, make
    from elmolite.tasks.examples.columns import ExampleColumns

    parser, valid = _parser("predict", predict.__doc__ or "")
    parser.add_argument("--input", type=str | None, default=None, help="sentences, with labels or without; - for stdin")
    parser.add_argument("--output", type=str | None, default=None, help="JSON lines (default: standard output)")
    parser.add_argument("--pretokenized", action="store_true", help="cut plain text at white space")
    values = parser.parse(Arguments(arguments, {*valid, "input", "output", "pretokenized"}))
    if values.input is None:
        raise InputError("--input is missing: a file, or - for standard input")
    if values.output is not None and Path(values.output).resolve() == Path(values.input).resolve():
        raise InputError(f"--output {values.output}: is the input, which would be replaced")

    from elmolite.tasks.predict import predict_file

    to_other_encoding = values.output is None and (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8"
    lines = (
        json.dumps(record, ensure_ascii=to_other_encoding) + "\n"
        for record in predict_file(
            values.model,
            values.input,
            make(ExampleColumns, values.columns),
            head=_head(values),
            encoder=values.encoder,
            pretokenized=values.pretokenized,
        )
    )
    if values.output is None:
        sys.stdout.writelines(lines)
        return
    with files.writing(Path(values.output)) as file:
        n_examples = sum(1 for line in lines if file.write(line.encode()))
    print(f"{values.output}: {n_examples:,} predictions")


def test(arguments: Sequence[str]) -> None:
    """What the predictions of a trained task are worth on a labelled file."""
    from elmolite.cli.options import Arguments, make
    from elmolite.tasks.examples.columns import ExampleColumns

    parser, valid = _parser("test", test.__doc__ or "")
    parser.add_argument("input", metavar="FILE", help="labelled examples")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    values = parser.parse(Arguments(arguments, {*valid, "json"}))

    from elmolite.tasks.predict import evaluate_file

    columns = make(ExampleColumns, values.columns)
    scores = evaluate_file(values.model, values.input, columns, head=_head(values), encoder=values.encoder)
    print(json.dumps(scores.as_dict()) if values.json else f"{scores.describe()}\n{scores.name} {scores.value:.4f}")


def _parser(command: str, description: str) -> tuple[OptionsParser, set[str]]:
    """Return what reads the options of a trained task and a file, and the names of those."""
    from elmolite.cli.options import OptionsParser, names_of
    from elmolite.tasks.examples.columns import ExampleColumns

    parser = OptionsParser(command, description)
    parser.add_argument("model", metavar="MODEL", help="the folder that elmolite finetune made")
    parser.add_argument(
        "--own_head", type=str | None, default=None, help="what made its head, where it was one of yours"
    )
    parser.add_argument(
        "--encoder", type=str | None, default=None, help="its language model, where that does not lie in its folder"
    )
    parser.add_settings(ExampleColumns, "columns")
    return parser, {"own_head", "encoder", *names_of(ExampleColumns, "columns")}


def _head(values: Namespace) -> HeadFactory | None:
    from elmolite.tasks.own_heads import load_head

    return None if values.own_head is None else load_head(values.own_head)
