"""Descriptions of a model, the presets and this machine, for ``elmolite info``."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from elmolite.checkpoint import SOFTMAX_FILE, Checkpoint
from elmolite.data.indexers import ByteIndexer, TokenIndexer
from elmolite.hub import released_models
from elmolite.nn.bilm import PRESETS, BiLM, BiLMConfig
from elmolite.nn.lstm.cells import describe_cells
from elmolite.nn.packed_linear import can_pack, has_fast_bfloat16
from elmolite.nn.recurrent import CELLS
from elmolite.utils.torch import best_device, without_weights


def describe_presets() -> str:
    """Return a table of the presets with their parameter counts."""
    lines = ["preset     parameters    cells  projection  filters  highway  layers"]
    for name, preset in PRESETS.items():
        config = preset()
        n_filters = sum(count for _, count in config.filters)
        lines.append(
            f"{name:<10} {_n_parameters(config):>10,} {config.cell_size:>8} {config.projection_size:>11} "
            f"{n_filters:>8} {config.n_highway_layers:>8} {config.n_layers:>7}"
        )
    lines.append("parameters without the softmax (vocabulary x (projection + 1))")
    if names := released_models():
        lines.append(f"models that come with the package: {', '.join(names)}")
    return "\n".join(lines)


def describe_model(name: str) -> str:
    """Describe a preset or a model folder."""
    if name in PRESETS and not Path(name).is_dir():
        config = PRESETS[name]()
        return f"{_describe_config(config, ByteIndexer())}\nparameters {_n_parameters(config):,}, without the softmax"
    with_softmax = not Path(name).is_dir() or (Path(name) / SOFTMAX_FILE).exists()
    checkpoint = Checkpoint.from_pretrained(name, with_softmax=with_softmax)
    lines = [
        _describe_config(checkpoint.bilm.config, checkpoint.indexer),
        f"parameters {checkpoint.bilm.n_parameters:,}",
    ]
    if checkpoint.softmax is not None and checkpoint.vocabulary is not None:
        kind = checkpoint.softmax.kind
        n_softmax = sum(parameter.numel() for parameter in checkpoint.softmax.parameters())
        lines.append(f"softmax    {kind}, {n_softmax:,} more, over {len(checkpoint.vocabulary):,} words")
    lines.append(f"text       {'white space between tokens' if checkpoint.tokenizer.is_whitespace else 'raw'}")
    match checkpoint.training:
        case {"step": int(step), "held_out_perplexity": {"forward": float(forward), "backward": float(backward)}}:
            lines.append(f"validation perplexity forward {forward:.2f}, backward {backward:.2f} after {step:,} steps")
    return "\n".join(lines)


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


def describe_runtime() -> str:
    """Describe the runtime of this machine; with the same lines, vectors are the same bit for bit."""
    device = best_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}"
    products = ", ".join(
        f"{label} {'oneDNN with packed weights' if can_pack(device, dtype) else 'torch'}"
        for label, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    )
    has_bfloat16 = device.type == "cuda" or has_fast_bfloat16()
    bfloat16 = "" if has_bfloat16 else "; bf16-mixed is slower than 32-true here: this processor has no bfloat16"
    return (
        f"device     {name}\n"
        f"capability {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads\n"
        f"products   without gradients: {products}{bfloat16}\n"
        f"LSTM       operations besides products: {describe_cells(device)}\n"
        f"torch      {torch.__version__}, Python {platform.python_version()}"
    )
