"""Two ranks train what one process trains, report errors once and stop together.

Run as a program, this file is one of the two ranks.
"""

import atexit
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from statistics import mean
from unittest import mock

import pytest
import torch
from helpers.data import make_corpus, random_sentences
from helpers.models import small_config
from helpers.pretraining import assert_same_run, before_step, read_log, training_checkpoint, weights_of
from lightning.pytorch.callbacks import LambdaCallback
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from elmolite.cli.main import main
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.errors import InputError
from elmolite.nn import softmax as softmax_module
from elmolite.pretraining import distributed, module
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.estimate import sent_bytes
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.trainer import pretrain

pytestmark = pytest.mark.multiprocess

SETTINGS = {"batch_size": 4, "bptt_length": 5, "max_steps": 50, "reset_probability": 0.3, "n_negatives": 16}
SETTINGS |= {"n_validations": 2, "log_every_steps": 5}
RATES = {"sgd": 1.0, "adagrad": 0.5}
RUNS = [
    ("adagrad", "sampled", "words"),
    ("adagrad", "sampled", "characters"),
    *(("sgd", softmax, "characters") for softmax in ("full", "sampled", "adaptive")),
]
TIMEOUT = 300
SMALL_RUN = ["--model.cell-size", "16", "--model.projection-size", "8", "--model.filters", "[[1, 8]]"]
SMALL_RUN += ["--batch-size", "4", "--max-steps", "4", "--n-validations", "1"]
RECIPES = Path(__file__).parents[2] / "recipes" / "distributed"


def train(corpus, out, optimizer, softmax, model_input, *, n_nodes, resume=False, callbacks=()):
    """Two processes load batches in worker processes, except with the sampled softmax."""
    model = small_config(dropout=0.0, input=model_input)
    changes = {"optimizer": optimizer, "learning_rate": RATES[optimizer], "softmax": softmax, "n_nodes": n_nodes}
    config = PretrainingConfig(**{**SETTINGS, **changes}, accumulate_steps=2 if softmax == "full" else 1)
    n_workers = 2 if n_nodes == 2 and softmax != "sampled" else 0
    with (
        mock.patch.object(softmax_module, "CUTOFFS", (10, 20)),
        mock.patch.object(module, "LARGE_VOCABULARY", 10),
        mock.patch.object(module, "n_batch_workers", return_value=n_workers),
    ):
        pretrain(config, model=model, corpus=corpus, out=out, resume=resume, show_progress=False, callbacks=callbacks)


def name_of(run):
    return "-".join(run)


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), random_sentences(60))


@pytest.fixture(scope="module")
def one(tmp_path_factory, small_corpus):
    """Folder with the runs of one process."""
    out = tmp_path_factory.mktemp("one")
    for run in RUNS:
        train(small_corpus.folder, out / name_of(run), *run, n_nodes=1)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory, small_corpus):
    """Folder with the runs of two processes, started as torchrun starts them on two nodes, and their errors."""
    out = tmp_path_factory.mktemp("two")
    common = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(small_corpus.folder), str(out)],
            env={**os.environ, **common, "RANK": str(rank), "GROUP_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=TIMEOUT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    assert said == ["", ""]
    return out


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_some_steps_have_no_target_on_a_rank(small_corpus):
    """The last steps of the epochs compared below, once on each rank."""
    streams = BPTTBatches(small_corpus, small_corpus.train, 4, 5, seed=0)
    assert streams.end_of_epoch(1) < SETTINGS["max_steps"]
    targets = [
        [streams.batch(step, rows=rows).n_targets for rows in (slice(0, 2), slice(2, 4))]
        for step in (streams.end_of_epoch(0) - 1, streams.end_of_epoch(1) - 1)
    ]
    assert targets == [[0, 1], [5, 0]]


@pytest.mark.parametrize("run", RUNS, ids=name_of)
def test_two_processes_equal_one(one, two, run):
    outs = [out / name_of(run) for out in (one, two)]
    torch.testing.assert_close(*map(weights_of, outs), rtol=0, atol=1e-6)
    for rows in zip(*map(read_log, outs), strict=True):
        for name in ("step", "loss", "learning_rate", "gradient_norm", "valid_average"):
            expected, found = (float(row[name] or 0) for row in rows)
            assert found == pytest.approx(expected, rel=2e-5), name
    states = [training_checkpoint(out)["lstm_state"] for out in outs]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("run", RUNS, ids=name_of)
def test_the_bytes_sent_are_those_of_the_estimate(two, run):
    for rank in range(2):
        estimated, of_dense, sent = report_of(two, rank)["bytes"][name_of(run)]
        quiet = [n for step, n in enumerate(sent) if step > 1 and step % SETTINGS["log_every_steps"] > 0]
        if run[1] == "sampled":  # the number of rows differs by step
            assert mean(quiet) - of_dense == pytest.approx(estimated - of_dense, rel=0.1)
        else:
            assert estimated == of_dense
            assert set(quiet) == {of_dense}


def report_of(two, rank):
    return json.loads((two / f"report.{rank}.json").read_text())


def test_two_processes_end_together_on_sigterm_and_resume(two):
    said = [report_of(two, rank)["SIGTERM"] for rank in range(2)]
    assert all(each.startswith("interrupted after step 40; to continue: elmolite pretrain --out") for each in said)
    assert_same_run(two / name_of(RUNS[-1]), two / "resumed")


HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("a run is there", "already contains a run: pass --resume"),
        ("an option of the second", f"rank 1 ({HERE}): unknown option '--bptt-lenth'"),
        ("corpus of the second", f"rank 1 ({HERE}): nowhere: no such corpus folder"),
        ("settings differ", "rank 1 has training.seed = 1, rank 0 0"),
        ("disk full", ".ckpt: cannot be written: no space"),
        ("diverges", "training diverged"),
        ("damaged checkpoints", "no checkpoint is intact"),
    ],
)
def test_an_error_of_a_rank_stops_both_and_is_reported_once(two, mistake, message):
    first, second = (report_of(two, rank)[mistake] for rank in range(2))
    assert first[0] == second[0] == 2
    assert message in first[1]
    assert first[1].splitlines()[-1].startswith("elmolite: ")  # before that, steps that were skipped
    assert first[1].count("elmolite: ") == 1
    assert second[1] == ""


SRUN = """#!/usr/bin/env bash
# As srun, on one machine: a task in a folder of its own, so that it shows who writes under a relative path.
while [[ $1 == --* ]]; do [[ $1 == *=* ]] && shift || shift 2; done
for task in 1 0; do
    mkdir $task
    (cd $task && SLURM_PROCID=$task SLURM_NODEID=$task SLURM_LOCALID=0 exec "$@" > said 2>&1) &
    tasks+=($!)
done
wait ${tasks[0]} && wait ${tasks[1]}
"""


def test_the_slurm_recipe(tmp_path, small_corpus):
    """Two nodes with a task each, of which the first alone speaks and writes."""
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    environment = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "elmolite", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "2"}
    environment |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_CPUS_PER_TASK": "1", "MASTER_PORT": str(free_port())}
    environment |= {"MASTER_ADDR": "127.0.0.1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    environment |= {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", RECIPES / "slurm.sh", small_corpus.folder, "run", *SMALL_RUN],
        env={**os.environ, **environment},
        cwd=tmp_path,
        timeout=TIMEOUT,
        check=False,
    )
    first, second = ((tmp_path / str(task) / "said").read_text() for task in range(2))
    assert done.returncode == 0, first + second
    assert first.count("next: elmolite embed") == 1
    assert second == ""
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["said"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "`n_nodes=2`: start elmolite with torchrun or srun"),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash"}, "`n_nodes=2`: start elmolite with torchrun or srun"),
        ({"SLURM_NTASKS": "2"}, "Use `--ntasks-per-node=2` instead"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, "`n_devices=1` `n_nodes=2`: You set"),
    ],
)
def test_the_number_of_processes_is_checked(monkeypatch, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as error:
        distributed.check_world_size(n_devices=1, n_nodes=2)
    assert message in str(error.value)


class OtherTables(PretrainingModule):
    """Starts with other tables than rank zero."""

    def __init__(self, *args):
        super().__init__(*args)
        for table in self.tables:
            torch.nn.init.zeros_(table)


class BytesSent(TorchDispatchMode):
    """Bytes of all collectives by step; two processes send a ring's collectives once."""

    def __init__(self):
        super().__init__()
        self.by_step, self.n_bytes = [], 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function.namespace == "c10d":
            gathers = function is torch.ops.c10d.allgather_.default
            self.n_bytes += sum(part.nbytes for part in tree_leaves(arguments[1 if gathers else 0]))
        return function(*arguments, **(keywords or {}))

    def end_step(self, *_):
        self.by_step.append(self.n_bytes)
        self.n_bytes = 0


def train_and_count_bytes(corpus, out, run):
    """Return the estimated bytes of a step, those of the gradients without sparse tables, and the sent ones by step."""
    estimates = []

    def estimate(trainer, module):
        counts = torch.tensor(Corpus.open(corpus).vocabulary.counts, dtype=torch.float64)
        estimates.append(sent_bytes(module, counts / counts.sum(), n_processes=2, batch_size=SETTINGS["batch_size"]))
        tables = {id(table) for table in module.tables}
        estimates.append(sum(weight.nbytes for weight in module.parameters() if id(weight) not in tables))

    with BytesSent() as sent:
        callback = LambdaCallback(on_train_start=estimate, on_train_batch_end=sent.end_step)
        train(corpus, out, *run, n_nodes=2, callbacks=[callback])
    return *estimates, sent.by_step


def end_and_resume(corpus, out, run):
    """Train until rank 1 receives SIGTERM at step 27, then resume; return the message of the interruption."""

    def interrupt(module):
        if module.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with before_step(27, interrupt), pytest.raises(KeyboardInterrupt) as interrupted:
        train(corpus, out, *run, n_nodes=2)
    train(corpus, out, *run, n_nodes=2, resume=True)
    return str(interrupted.value)


def say_if_in_group():
    """What a process says is compared with nothing: that is the test."""
    if torch.distributed.is_initialized():
        print("left without leaving the process group")


def mistakes(corpus, out):
    """Make mistakes in both processes or in one of them; return the exit code and the message of each."""
    second = not distributed.is_rank_zero()
    results = {}

    def make(mistake, *changes, corpus=corpus, folder=None):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            words = ["--corpus", corpus, "--out", str(out / (folder or mistake))]
            code = main(["pretrain", *words, "--n-nodes=2", *SMALL_RUN, *changes])
        results[mistake] = code, said.getvalue()

    def full(path, content):
        raise InputError(f"{path}: cannot be written: no space")

    make("a run is there", folder=name_of(RUNS[0]))
    make("an option of the second", *(["--bptt-lenth", "3"] if second else []))
    make("corpus of the second", corpus="nowhere" if second else corpus)
    make("settings differ", "--seed", str(int(second)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.pretraining.checkpointing.save_checkpoint", full)
        patch.setattr("elmolite.pretraining.logging.CsvLog.open_at", lambda *_: None)
        make("disk full")
    make("diverges", "--optimizer", "sgd", "--learning-rate", "1e30")
    make("damaged checkpoints")
    if not second:
        for path in TrainingCheckpoints(out / "damaged checkpoints").paths():
            path.write_bytes(b"cut short")
    distributed.all_gather_object(0)  # the second waits for that
    make("damaged checkpoints", "--resume")
    return results


if __name__ == "__main__":
    atexit.register(say_if_in_group)  # runs after what is registered later
    distributed.join_process_group()
    corpus_folder, out_folder = sys.argv[1], Path(sys.argv[2])
    if not distributed.is_rank_zero():
        mock.patch("elmolite.pretraining.trainer.PretrainingModule", OtherTables).start()
    traffic = {name_of(run): train_and_count_bytes(corpus_folder, out_folder / name_of(run), run) for run in RUNS}
    report = {"bytes": traffic, "SIGTERM": end_and_resume(corpus_folder, out_folder / "resumed", RUNS[-1])}
    report |= mistakes(corpus_folder, out_folder)
    (out_folder / f"report.{os.environ['RANK']}.json").write_text(json.dumps(report))
