"""Descriptions of models, tasks, presets, recipes and this machine, for ``elmolite info``."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from elmolite.checkpoint import SOFTMAX_FILE, Checkpoint
from elmolite.cli.options import names, read_config
from elmolite.data.indexers import ByteIndexer, TokenIndexer
from elmolite.hub import METRICS_FILE, RUN_MODEL, find_task, recipes, released_models
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import PRESETS, BiLMConfig
from elmolite.nn.kernels import describe_kernels
from elmolite.nn.packed_linear import can_pack, has_fast_bfloat16, int8_engine
from elmolite.nn.recurrent import CELLS
from elmolite.tasks.checkpoint import ENCODER_FOLDER, WEIGHTS_FILE, read_description
from elmolite.utils import files
from elmolite.utils.console import byte_size, n_of, printable
from elmolite.utils.serialization import TensorFile
from elmolite.utils.torch import best_device, without_weights

Description = tuple[str, dict[str, Any]]
"""Text, and values for ``--json``."""
_MAX_LABELS = 40
"""Maximum number of labels that a description names."""


def catalogue() -> Description:
    """Describe the presets, and name the models and recipes that come with the package."""
    lines = ["preset     parameters    cells  projection  filters  highway  layers"]
    presets = {name: {**asdict(preset()), "n_parameters": _n_parameters(preset())} for name, preset in PRESETS.items()}
    for name, config in presets.items():
        n_filters = sum(count for _, count in config["filters"])
        lines.append(
            f"{name:<10} {config['n_parameters']:>10,} {config['cell_size']:>8} {config['projection_size']:>11} "
            f"{n_filters:>8} {config['n_highway_layers']:>8} {config['n_layers']:>7}"
        )
    lines.append("parameters without the softmax (vocabulary x (projection + 1))")
    known = {kind: of_kind for kind, of_kind in names().items() if kind != "presets"}
    lines += [f"{kind}: {', '.join(of_kind)}" for kind, of_kind in known.items() if of_kind]
    return "\n".join(lines), {"presets": presets, **{kind.replace(" ", "_"): each for kind, each in known.items()}}


def named(name: str) -> Description:
    """Describe a task, a model, a preset or a recipe; a recipe of the same name as a model or preset is mentioned."""
    if (folder := find_task(name)) is not None:
        return task(folder)
    recipe = None if Path(name).exists() else {**recipes("pretrain"), **recipes("finetune")}.get(name)
    if recipe is None:
        return model(name)
    values: dict[str, Any] = {"recipe": str(recipe), "settings": read_config(str(recipe))}
    if name not in (*PRESETS, *released_models()):
        return f"# {recipe}\n{recipe.read_text(encoding='utf-8').rstrip()}", values
    text, of_model = model(name)
    return f"{text}\nrecipe     {recipe}", {**of_model, **values}


def model(name: str) -> Description:
    """Describe a preset or a model folder."""
    if name in PRESETS and not Path(name).is_dir():
        config = PRESETS[name]()
        text = f"{_describe_config(config, ByteIndexer())}\nparameters {_n_parameters(config):,}, without the softmax"
        return text, {"config": asdict(config), "n_parameters": _n_parameters(config)}
    with_softmax = not Path(name).is_dir() or (Path(name) / SOFTMAX_FILE).exists()
    checkpoint = Checkpoint.from_pretrained(name, with_softmax=with_softmax)
    config, n_parameters = checkpoint.bilm.config, checkpoint.bilm.n_parameters
    lines = [_describe_config(config, checkpoint.indexer), f"parameters {n_parameters:,}"]
    values: dict[str, Any] = {"config": asdict(config), "n_parameters": n_parameters, "softmax": None}
    if checkpoint.softmax is not None and checkpoint.vocabulary is not None:
        kind, n_words = checkpoint.softmax.kind, len(checkpoint.vocabulary)
        n_softmax = sum(parameter.numel() for parameter in checkpoint.softmax.parameters())
        lines.append(f"softmax    {kind}, {n_softmax:,} more, over {n_words:,} words")
        values["softmax"] = {"kind": kind, "n_parameters": n_softmax, "n_words": n_words}
    lines.append(f"text       {'white space between tokens' if checkpoint.tokenizer.is_whitespace else 'raw'}")
    match checkpoint.training:
        case {"step": int(step), "held_out_perplexity": {"forward": float(forward), "backward": float(backward)}}:
            lines.append(f"validation perplexity forward {forward:.2f}, backward {backward:.2f} after {step:,} steps")
            values["validation_perplexity"] = {"forward": forward, "backward": backward, "step": step}
    return "\n".join(lines), values


def task(folder: Path) -> Description:
    """Describe a fine-tuned task, with the scores of its run if they are next to it."""
    description, manifest = read_description(folder)
    head = None if description.head is None else asdict(description.head)
    n_parameters = sum(math.prod(shape) for shape in TensorFile(folder / WEIGHTS_FILE).shapes.values())
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    reference = manifest["encoder"] and manifest["encoder"]["folder"]
    is_copy = reference == ENCODER_FOLDER
    labels = [*map(printable, description.labels[:_MAX_LABELS]), *["..."] * (len(description.labels) > _MAX_LABELS)]
    lines = [
        f"task       {description.task}, {n_of(len(description.labels), 'label')}: {', '.join(labels)}",
        f"head       {'custom' if head is None else _settings(head)}",
        f"input      {_settings(asdict(description.inputs))}",
        f"encoder    {'a copy in the folder' if is_copy else reference or 'none'}",
        f"parameters {n_parameters:,}, without the encoder",
        f"size       {byte_size(n_bytes)} on disk",
    ]
    values = {**asdict(description), "encoder": reference, "n_parameters": n_parameters, "n_bytes": n_bytes}
    if folder.name == RUN_MODEL and (path := folder.parent / METRICS_FILE).is_file():
        metrics = files.read_json(path, kind="run")
        values["scores"] = {part: metrics[part] for part in ("dev", "test") if metrics.get(part)}
        shown = [f"{part} {each['name']} {each['value']:.4f}" for part, each in values["scores"].items()]
        lines.append(f"scores     {', '.join(shown)}, of epoch {metrics.get('best_epoch')}")
    return "\n".join(lines), values


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _describe_config(config: BiLMConfig, indexer: TokenIndexer) -> str:
    if config.input == "words":
        encoder = f"a table of {indexer.n_ids:,} words"
    else:
        widths = " ".join(f"{width}x{count}" for width, count in config.filters)
        encoder = (
            f"{indexer.n_ids:,} ids of {indexer.reads}, each of {config.character_embedding_size}, filters {widths}, "
            f"{config.activation}, {config.n_highway_layers} highway"
        )
    has_clips = "cell_clip" in CELLS[config.cell].options
    clips = f", clipped at {config.cell_clip} and {config.projection_clip}" if has_clips else ""
    return (
        f"encoder    {encoder}\n"
        f"layers     {config.n_layers} of {config.cell_size} {config.cell.upper()} cells in each direction, projected "
        f"to {config.projection_size}{clips}\n"
        f"vectors    {config.n_layers + 1} layers of {2 * config.projection_size}"
    )


def _n_parameters(config: BiLMConfig) -> int:
    with without_weights():
        return BiLM(config, **ByteIndexer().sizes()).n_parameters


def runtime() -> Description:
    """Describe the runtime of this machine; with the same lines, vectors are the same bit for bit."""
    device = best_device()
    products = ", ".join(
        f"{label} {'oneDNN with packed weights' if can_pack(device, dtype) else 'torch'}"
        for label, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    )
    has_bfloat16 = device.type == "cuda" or has_fast_bfloat16()
    bfloat16 = "" if has_bfloat16 else "; bf16-mixed is slower than 32-true here: this processor has no bfloat16"
    n_threads = torch.get_num_threads()
    values = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {platform.machine()}",
        "capability": f"{torch.backends.cpu.get_cpu_capability()}, {n_of(n_threads, 'thread')}",
        "products": f"without gradients: {products}, int8 {int8_engine() or 'not available'}{bfloat16}",
        "LSTM": f"operations besides products: {describe_kernels(device)}",
        "torch": f"{torch.__version__}, Python {platform.python_version()}",
    }
    return "\n".join(f"{name:<10} {value}" for name, value in values.items()), {"runtime": values}
