"""elmolite's pretraining: the corpus, the module, Lightning's trainer and the log of ``elmolite pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from turns import Turns

from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.nn.config import PRESETS
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.logging import CsvLog, TrainingLog
from elmolite.pretraining.module import PretrainingData, PretrainingModule
from elmolite.pretraining.setup import PretrainingRun
from elmolite.pretraining.trainer import make_trainer
from elmolite.utils.torch import keep_freed_memory, quiet_lightning


class TurnTaking(Callback):
    """Holds the training between turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.turns.begin({"torch": torch.__version__})

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.turns.step_is_done(float(outputs["loss_sum"] / (2 * outputs["n_targets"])))


def main() -> None:
    """Train until there are no more turns."""
    turns = Turns()
    settings = turns.settings
    torch.set_num_threads(settings["threads"])
    keep_freed_memory()
    text = turns.write_text()
    corpus = prepare(
        str(text),
        text.with_name("corpus"),
        hold_out=False,
        tokenizer=SentenceTokenizer.whitespace(),
        vocabulary=Vocabulary.load(Path(settings["vocabulary"])),
        n_workers=1,
        overwrite=True,
        show_progress=False,
    )
    config = PretrainingConfig(
        n_epochs=settings["steps_in_all"],  # an epoch has at least one step
        max_steps=settings["steps_in_all"],
        batch_size=settings["n_rows"],
        bptt_length=settings["window"],
        softmax="sampled",
        n_negatives=settings["n_negatives"],
        precision=settings["precision"],
    )
    run = PretrainingRun.build(config, model=PRESETS[settings["preset"]](), corpus=corpus.folder)
    module = PretrainingModule(run.model.bilm, run.softmax, config, run.n_steps)
    log = TrainingLog(run.n_steps, every=config.log_every_steps, show=False)
    with quiet_lightning():
        csv = CsvLog(text.with_name(f"{config.precision}.csv"), keep=False)
        trainer = make_trainer(run, TrainingCheckpoints(text.parent), loggers=[csv], callbacks=[log, TurnTaking(turns)])
        trainer.fit(module, PretrainingData(run))


if __name__ == "__main__":
    main()
