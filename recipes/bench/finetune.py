"""What an epoch of fine-tuning costs: frozen layers from the cache, static vectors of the same width, no cache, a CRF.

    python recipes/bench/finetune.py mini-en ud_english_ewt.train.conllu.gz

Every way trains the same BiLSTM tagger, some epochs in turn, so that all of them see the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from elmolite.tasks.config import FinetuningConfig, InputConfig, TagConfig
from elmolite.tasks.data import ShuffledBatches, TaskData
from elmolite.tasks.examples.sources import TaskExamples, read_examples
from elmolite.tasks.finetune import FinetuningRun
from elmolite.tasks.model import TaskModel


def epoch(model: TaskModel, data: TaskData, config: FinetuningConfig) -> float:
    """Train an epoch; return its seconds."""
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=config.learning_rate)
    batches = ShuffledBatches(data.lengths, config.batch_size, seed=0)
    began = time.perf_counter()
    for batch in DataLoader(data, batch_size=None, sampler=batches):
        optimizer.zero_grad()
        loss = model.loss(batch.sentences, batch.targets) + config.mix_penalty * model.inputs.penalty()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
    return time.perf_counter() - began


def write_static_vectors(path: Path, setup: FinetuningRun) -> None:
    """Write a vector of numbers at random for each word, as wide as a layer."""
    random = np.random.default_rng(0)
    words = sorted({word for example in setup.examples.train for word in example.sentences[0]})
    with path.open("w", encoding="utf-8") as file:
        for word in words:
            file.write(f"{word} {' '.join(f'{x:.4f}' for x in random.standard_normal(setup.elmo.size))}\n")


def main() -> None:
    """Time all ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder")
    parser.add_argument("train", help="a tagged file")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-examples", type=int, default=4000)
    options = parser.parse_args()
    config = FinetuningConfig()
    train = read_examples(options.train, "tag").examples[: options.max_examples]
    with tempfile.TemporaryDirectory() as folder:
        setup = FinetuningRun.build(
            TaskExamples("tag", train, train[:1]), encoder=options.encoder, inputs=InputConfig(), head=TagConfig()
        )
        vectors = Path(folder) / "vectors.txt"
        write_static_vectors(vectors, setup)
        static = replace(setup, inputs=InputConfig(layers="none", static=str(vectors)))
        with_crf, without = replace(setup, head=TagConfig(crf="always")), replace(setup, head=TagConfig(crf="never"))
        ways = {
            "static vectors": (static, True),
            "layers from the cache": (setup, True),
            "layers computed anew": (setup, False),
            "from the cache, softmax": (without, True),
            "from the cache, CRF": (with_crf, True),
        }
        made = {}
        for name, (way, is_cached) in ways.items():
            model = way.make_model(0).train()
            data = TaskData(train, model, way.tokenizer)
            if is_cached:
                data.cache_layers(Path(folder), show_progress=False)
            made[name] = (model, data)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.epochs + 1):
            for name, (model, data) in made.items():
                seconds[name].append(epoch(model, data, config))
        medians = {name: statistics.median(each[1:]) for name, each in seconds.items()}  # the first warms up
    for name, median in medians.items():
        print(f"{name:<26} {median:7.2f} s an epoch, {median / medians['static vectors']:5.2f} of static vectors")
    crf = medians["from the cache, CRF"] / medians["from the cache, softmax"]
    print(f"the CRF costs {crf:.2f} of the softmax head")


if __name__ == "__main__":
    main()
