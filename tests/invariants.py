"""Check that weights, vectors, predictions, flags and public names stay the same across a change.

``python tests/invariants.py`` computes each item, prints it and compares it with ``tests/invariants.json``; the exit
code is 1 if one differs. Hashes are reproducible on one kind of machine only: on another processor or torch version
only the names of functions, commands and flags are compared. The texts are in ``tests/fixtures/invariants``.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1"}

import argparse
import contextlib
import csv
import gzip
import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.numpy import load_file

import elmolite
from elmolite.cli.main import main as run_main

RECORD = Path(__file__).with_name("invariants.json")
FILES = Path(__file__).parent / "fixtures" / "invariants"
FOLDER = Path(tempfile.mkdtemp(prefix="invariants-"))  # of all that is written

SCENARIOS = yaml.safe_load((FILES / "scenarios.yaml").read_text(encoding="utf-8"))


def sha256(*parts):
    """Return the SHA-256 of parts, whose lengths count too."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def hash_of_arrays(arrays):
    """Return the SHA-256 of the dtype, shape and content of each array."""
    parts = ((str(array.dtype), str(array.shape), np.ascontiguousarray(array).tobytes()) for array in arrays)
    return sha256(*(each for part in parts for each in part))


def hash_of_weights(folder):
    parts = []
    for file in ("model.safetensors", "softmax.safetensors"):
        for name, array in sorted(load_file(folder / file).items()):
            parts += [f"{file}/{name}", hash_of_arrays([array])]
    return sha256(*parts)


def hash_of_log(run):
    columns = ["step", "loss", "learning_rate", "gradient_norm", "valid_forward", "valid_backward", "valid_average"]
    columns.append("skipped_steps")
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        return sha256(json.dumps([[row[column] for column in columns] for row in csv.DictReader(file)]))


def rounded(value):
    """Round all numbers to 6 digits."""
    if isinstance(value, float):
        return round(value, 6) + 0.0  # -0.0 is 0.0
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def hash_of_json(value):
    return sha256(json.dumps(rounded(value), sort_keys=True))


def run_command(*arguments):
    """Run a command in this process, and return its output; it must succeed."""
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            code = run_main([str(argument) for argument in arguments])
        except SystemExit as end:  # of --help
            code = end.code
    if code:
        raise RuntimeError(f"elmolite {arguments}: exit code {code}: {complained.getvalue()}")
    return said.getvalue()


@cache
def english():
    """Return 1,000 sentences of 3 to 30 tokens, of which one in twenty is odd."""
    text = gzip.decompress((FILES / "english.txt.gz").read_bytes()).decode()
    return [line.split(" ") for line in text.splitlines()]


def english_strings():
    return [" ".join(words).replace(" ...", "...") for words in english()]


def english_file(n):
    """Write the first sentences, and return the path."""
    path = FOLDER / f"english-{n}.txt"
    path.write_text("\n".join(english_strings()[:n]) + "\n", encoding="utf-8")
    return path


@cache
def corpus(name):
    out, text = FOLDER / f"corpus-{name}", FILES / f"{name}.txt.gz"
    if name == "unicode":
        options = "--pretokenized --characters unicode --min-character-count 2 --vocab-size 200 --workers 1"
        run_command("prepare", text, *options.split(), "--out", out)
    else:
        options = {"valid": str(FILES / "valid.txt"), "min_count": 1} if name == "large" else {}
        elmolite.prepare(str(text), out, n_workers=1, show_progress=False, **options)
    return out


def hash_of_corpus(name):
    paths = [path for path in sorted(corpus(name).iterdir()) if path.suffix != ".json"]
    return sha256(*(part for path in paths for part in (path.name, path.read_bytes())))


@cache
def run(name):
    """Pretrain, and return the run folder; two processes are started from the command line."""
    out, scenario = FOLDER / f"run-{name}", SCENARIOS["runs"][name]
    training = SCENARIOS["training"] | scenario.get("training", {})
    model = SCENARIOS["model"] | scenario.get("model", {})
    source = corpus(scenario.get("corpus", "text"))
    if name == "two-processes":
        settings = training | {f"model.{key}": value for key, value in model.items()}
        words = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        command = [sys.executable, "-m", "elmolite", "pretrain", "--corpus", source, "--out", out, *words]
        search = os.pathsep.join([str(Path(elmolite.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": search, "TORCH_CPP_LOG_LEVEL": "ERROR"}
        subprocess.run(command, env=environment, capture_output=True, timeout=300, check=True)
        return out
    elmolite.pretrain(
        elmolite.PretrainingConfig(**training),
        model=elmolite.BiLMConfig(**model),
        corpus=source,
        out=out,
        init_from=run(scenario["init_from"]) / "model" if "init_from" in scenario else None,
        show_progress=False,
    )
    return out


def evaluation():
    """Return the hash of the perplexities of a text."""
    text, names = FILES / "other.txt", ("lstm-full", "adaptive", "words")
    return hash_of_json([json.loads(run_command("evaluate", run(name) / "model", text, "--json")) for name in names])


def model(**options):
    """Return a model of its own for each item, with an empty cache of words."""
    return elmolite.ELMo.from_pretrained("mini-en", **options)


def aligned():
    found = model().embed_aligned(english_strings()[:200], layers="top")
    of_tokens = hash_of_json([[each.tokens, each.offsets] for each in found])
    return sha256(of_tokens, hash_of_arrays([each.vectors for each in found]))


def without_common():
    vectors = model().embed_sentences(english_strings()[:200])
    return hash_of_arrays([elmolite.CommonComponent.fit(vectors).remove(vectors)])


def carried():
    elmo = model()
    calls = [elmo.embed(english()[i : i + 50], carry_state=True) for i in (0, 50, 100)]
    return hash_of_arrays([each for call in calls for each in call])


def file_of_vectors():
    out = FOLDER / "vectors.npz"
    options = ("--layers", "1", "--dtype", "float16")
    run_command("embed", "mini-en", "--input", english_file(100), "--output", out, *options)
    with np.load(out) as arrays:
        return hash_of_arrays(arrays[name] for name in sorted(arrays.files))


def folder_of_vectors():
    out = FOLDER / "vectors"
    run_command("embed", "mini-en", "--input", english_file(100), "--output", out, "--pretokenized")
    return hash_of_arrays(elmolite.EmbeddingFolder(out))


def neighbours():
    query = ("--query", "they [play] in the garden", "-n", "3")
    return sha256(run_command("neighbours", "mini-en", english_file(300), *query))


def long_sentence():
    words = [word for sentence in english()[:40] for word in sentence]
    return hash_of_arrays(model().embed([words], layers="average", batch_tokens=100))


EMBEDDINGS = {
    "tokens-all-layers": lambda: hash_of_arrays(model().embed(english())),
    "strings-all-layers": lambda: hash_of_arrays(model().embed(english_strings())),
    "tokenizer-and-offsets": aligned,
    "top-one-by-one": lambda: hash_of_arrays(model().embed_iter(english()[:200], layers="top", batch_tokens=100)),
    "average-long-sentence": long_sentence,
    "carried-state": carried,
    "bf16": lambda: hash_of_arrays(model(precision="bf16-mixed").embed(english()[:200])),
    "sentences-weighted": lambda: hash_of_arrays([model().embed_sentences(english_strings(), pooling="weighted")]),
    "sentences-max": lambda: hash_of_arrays(
        [model().embed_sentences(english_strings()[:200], pooling="max", layers=1)]
    ),
    "sentences-without-common": without_common,
    "file-npz": file_of_vectors,
    "file-folder": folder_of_vectors,
    "neighbours": neighbours,
}


def task(name):
    """Train a task; return the hash of its predictions and of its epochs without their times."""
    scenario = {"head": {}, "inputs": {}, "training": {}, **SCENARIOS["tasks"][name]}
    kind, out, path = scenario["task"], FOLDER / f"task-{name}", FILES / scenario["file"]
    config = {"classify": elmolite.ClassifyConfig, "tag": elmolite.TagConfig, "entail": elmolite.EntailConfig}[kind]
    inputs = {"dropout": 0.1, **scenario["inputs"]}
    if "static" in inputs:
        inputs["static"] = str(FILES / inputs["static"])
    result = elmolite.finetune(
        kind,
        encoder=run("lstm-full") / "model",
        train=path,
        out=out,
        config=elmolite.FinetuningConfig(**SCENARIOS["finetuning"] | scenario["training"]),
        inputs=elmolite.InputConfig(**inputs),
        head=config(**{"hidden_size": 8, "dropout": 0.1} | scenario["head"]),
        cache=FOLDER / "cache",
        show_progress=False,
    )
    predictions = FOLDER / "predictions.jsonl"
    run_command("predict", out, "--input", path, "--output", predictions)
    records = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    scores = json.loads(run_command("test", out, path, "--json"))
    epochs = [{key: value for key, value in each.items() if "seconds" not in key} for each in result.epochs]
    return hash_of_json([*records, scores, *epochs])


@cache
def commands():
    return sorted(re.findall(r"^ {2,4}([a-z][a-z-]+)[ \n]", run_command("--help"), re.MULTILINE))


def flags(*command):
    """Return the option strings of a help text."""
    lines = [line for line in run_command(*command, "--help").splitlines() if re.match(r" +-", line)]
    heads = (re.split(r" {2,}", line.strip())[0] for line in lines)
    return sorted({flag for head in heads for flag in re.findall(r"(?<![\w.-])--?[A-Za-z][\w.+-]*", head)})


def all_items():
    """Return a function for each item, which returns a hash or a list of names."""
    items = {"public/__all__": lambda: sorted(elmolite.__all__), "public/commands": commands}
    items |= {f"flags/{name}": partial(flags, name) for name in commands() if name != "finetune"}
    items |= {f"flags/finetune-{kind}": partial(flags, "finetune", kind) for kind in ("classify", "tag", "entail")}
    items |= {f"corpus/{name}": partial(hash_of_corpus, name) for name in ("text", "unicode", "large", "unlike")}
    for name in SCENARIOS["runs"]:
        items[f"run/{name}/weights"] = lambda name=name: hash_of_weights(run(name) / "model")
        items[f"run/{name}/log"] = lambda name=name: hash_of_log(run(name))
    items |= {"evaluate": evaluation} | {f"embed/{name}": function for name, function in EMBEDDINGS.items()}
    return items | {f"task/{name}": partial(task, name) for name in SCENARIOS["tasks"]}


def machine():
    """Return what the hashes depend on besides the code."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = (re.search(r"model name\s*: (.*)", text) or ["", model])[1]
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": model, "cpu_capability": capability, "torch": torch.__version__, "numpy": np.__version__}


def compute(items):
    """Return the value of each item, or the error of one that failed."""
    found = {}
    for name, function in items.items():
        since = time.perf_counter()
        try:
            found[name] = function()
        except Exception as error:
            found[name] = error
        digest = sha256(json.dumps(found[name])) if isinstance(found[name], list) else found[name]
        print(f"{name} {digest}  [{time.perf_counter() - since:.1f} s]", flush=True)
    return found


def record(content, recorded, found):
    """Replace the recorded items by those that were found."""
    if failed := [name for name, value in found.items() if isinstance(value, Exception)]:
        sys.exit(f"not recorded: {', '.join(failed)} failed")
    for key, kind in (("hashes", str), ("lists", list)):
        kept = {name: value for name, value in content[key].items() if name not in recorded}
        kept |= {name: value for name, value in found.items() if isinstance(value, kind)}
        content[key] = dict(sorted(kept.items()))
    content["machine"] = machine()
    RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def differences(recorded, found):
    """Yield a line for each item that differs."""
    for name in recorded.keys() | found.keys():
        a, b = recorded.get(name), found.get(name)
        if isinstance(a, list) and isinstance(b, list) and a != b:
            yield f"{name}: new {sorted(set(b) - set(a))}, gone {sorted(set(a) - set(b))}"
        elif a != b:
            yield f"{name}: {b!r} (recorded: {a!r})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help=f"compare with {RECORD.name}, the default")
    mode.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--only", default="", metavar="PREFIX", help="items whose names begin with it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(f"elmolite of {Path(elmolite.__file__).parent}", flush=True)
    content = json.loads(RECORD.read_text(encoding="utf-8"))
    same_machine = content["machine"] == machine()
    if options.record and options.only and not same_machine:
        sys.exit(f"{RECORD} is of another machine: record all of it")
    kinds = "" if same_machine or options.record else ("public/", "flags/")

    def selected(items):
        return {name: item for name, item in items.items() if name.startswith(options.only) and name.startswith(kinds)}

    recorded, found = selected(content["lists"] | content["hashes"]), compute(selected(all_items()))
    if options.record:
        return record(content, recorded, found)
    if kinds:
        print(f"hashes are not comparable: recorded on {content['machine']}, this is {machine()}")
    lines = sorted(differences(recorded, found))
    print("\n".join(["DIFFERENT:", *lines] if lines else ["all as recorded"]))
    return 1 if lines else 0


if __name__ == "__main__":
    os.environ["XDG_CACHE_HOME"] = str(FOLDER)
    try:
        sys.exit(main())
    finally:
        shutil.rmtree(FOLDER)
