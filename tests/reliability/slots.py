"""Every place in which code could sit in what comes from a stranger: how it gets there, and how it is read."""

import io
import json
import pickle
import shutil
import zipfile

import h5py
import numpy as np
import torch
from strangers import (
    RUN,
    RUN_MODEL,
    SENTENCES,
    cache_entry,
    cached,
    change,
    replace,
)

from elmolite import load_recipe
from elmolite.checkpoint import convert
from elmolite.cli.info import describe_model
from elmolite.cli.main import main
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.output import EmbeddingFolder
from elmolite.errors import InputError
from elmolite.pretraining.estimate import plan
from elmolite.pretraining.saved_points import SavedPoints
from elmolite.pretraining.trainer import pretrain
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.setup import TaskExamples
from elmolite.tasks.static_vectors import StaticVectors
from elmolite.utils import files

MARK = "executed"
"""The file that a bomb makes."""


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, folder):
        self.command = f"open({str(folder / MARK)!r}, 'w').close()"

    def __reduce__(self):
        return exec, (self.command,)


def pickled(folder):
    return pickle.dumps(Bomb(folder), protocol=2)


def saved(folder, *, is_zip=True):
    buffer = io.BytesIO()
    content = {"state_dict": Bomb(folder), "weight": torch.zeros(2)}
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def code(folder):
    return f"__import__('os').system('touch {folder / MARK}')"


def objects(folder):
    """An ``.npy`` file with a pickle in it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(folder)], object), allow_pickle=True)
    return buffer.getvalue()


def archive_of_objects(folder):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Bomb(folder)], object))
    return buffer.getvalue()


def all_strings_code(content, folder):
    """Put code in the place of each string of JSON but the names of files and formats."""
    if isinstance(content, dict):
        return {key: all_strings_code(value, folder) if key != "files" else value for key, value in content.items()}
    if isinstance(content, list):
        return [all_strings_code(value, folder) for value in content]
    return code(folder) if isinstance(content, str) else content


# How what lies in a folder is read.


def read_model(folder):
    describe_model(str(folder / "model"))
    ELMo.from_pretrained(folder / "model").embed(SENTENCES)


def read_lexicon(folder):
    ELMo.from_pretrained(folder / "lexicon").embed(SENTENCES)


def read_corpus(folder):
    corpus = Corpus.open(folder / "corpus")
    BPTTBatches(corpus, corpus.train, 2, 8, seed=0).batch(0)
    corpus.sentences(corpus.train, 3)


def read_run(folder):
    options = {"corpus": folder / "corpus", "out": folder / "run", "resume": True, "show_progress": False}
    pretrain(RUN, model=RUN_MODEL, **options)


def read_task(folder):
    TaskCheckpoint.from_pretrained(folder / "task").predict(SENTENCES)


def predict_command(folder):
    command = ["predict", str(folder / "task"), "--input", str(folder / "lines.txt"), "--output", str(folder / "out")]
    if main(command):
        raise InputError("said on standard error")


def read_embedding(folder):
    list(EmbeddingFolder(folder / "embedding"))


def read_cache(folder):
    cached(folder)


def read_bilm_tf(folder):
    convert(folder / "bilm_tf", folder / "converted")
    ELMo.from_pretrained(folder / "converted").embed(SENTENCES)


def read_archive(folder):
    ELMo.from_pretrained(folder / "a.zip").embed(SENTENCES)


def read_many_langs(folder):
    for name in ("many_langs", "many_langs_old"):
        ELMo.from_pretrained(folder / name).embed(SENTENCES)


def read_recipe(folder):
    model, config = load_recipe(folder / "recipe.yaml")
    plan(config, model=model, corpus=folder / "nowhere")


def read_finetune_recipe(folder):
    command = [
        "finetune",
        "classify",
        "--config",
        str(folder / "recipe.yaml"),
        "--train",
        "nowhere",
        "--out",
        "nowhere",
    ]
    if main(command):
        raise InputError("said on standard error")


def read_vectors(folder):
    for name in ("vectors.txt", "vectors.bin"):
        StaticVectors.load(folder / name, show_progress=False)


def read_examples(folder):
    TaskExamples.read("classify", train=folder / "examples.txt")


def in_hdf5(make):
    """Change an HDF5 file in place."""

    def change_file(folder):
        with h5py.File(folder / "bilm_tf" / "weights.hdf5", "a") as file:
            make(file, folder)

    return change_file


def with_attributes(file, folder):
    file.attrs["bomb"] = np.void(pickled(folder))
    file["CNN"].attrs.create("code", code(folder), dtype=h5py.string_dtype())


def with_strings(file, folder):
    del file["CNN/b_cnn_0"]
    file.create_dataset("CNN/b_cnn_0", (3,), h5py.string_dtype())[...] = code(folder)


def with_bytes_of_any_length(file, folder):
    del file["CNN/b_cnn_0"]
    content = np.frombuffer(pickled(folder), np.uint8)
    file.create_dataset("CNN/b_cnn_0", (3,), h5py.vlen_dtype(np.uint8))[0] = content


def with_references(file, folder):
    del file["CNN/b_cnn_0"]
    file.create_dataset("CNN/b_cnn_0", (3,), h5py.ref_dtype)[0] = file["CNN"].ref


def with_external_link(file, folder):
    del file["CNN/b_cnn_0"]
    file["CNN/b_cnn_0"] = h5py.ExternalLink(str(outside(folder) / "other.h5"), "x")


def with_external_storage(file, folder):
    del file["CNN/b_cnn_0"]
    external = [(str(outside(folder) / "other.h5"), 0, 12)]
    file.create_dataset("CNN/b_cnn_0", (3,), np.float32, external=external)


def with_virtual_dataset(file, folder):
    del file["CNN/b_cnn_0"]
    layout = h5py.VirtualLayout((3,), np.float32)
    layout[:] = h5py.VirtualSource(str(outside(folder) / "other.h5"), "x", shape=(3,))
    file.create_virtual_dataset("CNN/b_cnn_0", layout)


def outside(folder):
    """A place beside the folder, with a file that a stranger would like to have read."""
    place = folder.parent / "outside"
    place.mkdir(exist_ok=True)
    with h5py.File(place / "other.h5", "w") as file:
        file["x"] = np.full(3, 7, np.float32)
    (place / "secret.txt").write_text("a secret\t1\n")
    return place


def in_archive(name, content):
    """Pack the model of bilm-tf into an archive, with other content in one file of it."""

    def make(folder):
        with zipfile.ZipFile(folder / "a.zip", "w") as archive:
            for path in sorted((folder / "bilm_tf").iterdir()):
                archive.writestr(path.name, content(folder) if path.name == name else path.read_bytes())

    return make


def in_folder(manifest, name, content):
    return lambda folder: replace(folder / manifest, name, content(folder))


def in_manifest(manifest, function):
    return lambda folder: change(folder / manifest, lambda content: function(content, folder))


def strings_of(manifest, key):
    return in_manifest(manifest, lambda content, f: content.update({key: all_strings_code(content[key], f)}))


def in_file(name, content):
    return lambda folder: (folder / name).write_bytes(content(folder))


def in_point(content):
    """Put other content into the last point to resume from, sealed as it should be."""

    def make(folder):
        path = SavedPoints(folder / "run").paths()[0]
        files.write_checksummed(path, memoryview(content(folder)))

    return make


def own_head(content, folder):
    (folder / "task" / "evil.py").write_text(code(folder) + "\nHead = print\n")
    content.update(head=None, own_head="evil.py:Head")


def other_encoder(place):
    def make(folder):
        there = place(folder)
        change(folder / "task" / "task.json", lambda content: content["encoder"].update(folder=there))

    return make


def model_elsewhere(folder):
    shutil.copytree(folder / "model", outside(folder) / "model", dirs_exist_ok=True)
    return str(outside(folder) / "model")


def yaml_tag(tag):
    return in_file("recipe.yaml", lambda f: f"max_steps: !!python/{tag} [{code(f)!r}]\n".encode())


def dataset_with_script(folder):
    place = folder / "examples.txt"
    place.unlink()
    place.mkdir()
    (place / "examples.txt.py").write_text(code(folder))


SLOTS = {
    "strings of a model's configuration": (strings_of("model/config.json", "model"), read_model),
    "a model's record of its training": (strings_of("model/config.json", "training"), read_model),
    "the softmax's description": (strings_of("model/config.json", "softmax"), read_model),
    "config.json, pickled": (in_file("model/config.json", pickled), read_model),
    "model.safetensors, pickled": (in_folder("model/config.json", "model.safetensors", pickled), read_model),
    "model.safetensors, saved by torch": (in_folder("model/config.json", "model.safetensors", saved), read_model),
    "softmax.safetensors, saved by torch": (in_folder("model/config.json", "softmax.safetensors", saved), read_model),
    "vocab.txt, pickled": (in_folder("model/config.json", "vocab.txt", pickled), read_model),
    "vocab.txt, code": (in_folder("model/config.json", "vocab.txt", lambda f: code(f).encode()), read_model),
    "tokenizer.json, pickled": (in_folder("model/config.json", "tokenizer.json", pickled), read_model),
    "strings of tokenizer.json": (
        lambda f: replace(
            f / "model" / "config.json",
            "tokenizer.json",
            json.dumps(all_strings_code(json.loads((f / "model" / "tokenizer.json").read_text()), f)).encode(),
        ),
        read_model,
    ),
    "characters.json, pickled": (in_folder("model/config.json", "characters.json", pickled), read_model),
    "lexicon.json, pickled": (in_folder("lexicon/config.json", "lexicon.json", pickled), read_lexicon),
    "corpus.json, pickled": (in_file("corpus/corpus.json", pickled), read_corpus),
    "tokens, objects": (in_folder("corpus/corpus.json", "train.tokens.npy", objects), read_corpus),
    "sentences, objects": (in_folder("corpus/corpus.json", "train.sentences.npy", objects), read_corpus),
    "characters, objects": (in_folder("corpus/corpus.json", "characters.npy", objects), read_corpus),
    "ids, an archive": (in_folder("corpus/corpus.json", "vocab_ids.npy", archive_of_objects), read_corpus),
    "ids, pickled": (in_folder("corpus/corpus.json", "vocab_ids.npy", pickled), read_corpus),
    "words.txt, pickled": (in_folder("corpus/corpus.json", "words.txt", pickled), read_corpus),
    "a point to resume from": (in_point(saved), read_run),
    "a point, before zip": (in_point(lambda f: saved(f, is_zip=False)), read_run),
    "a point, pickled": (in_point(pickled), read_run),
    "strings of a task": (strings_of("task/task.json", "inputs"), read_task),
    "labels of a task": (strings_of("task/task.json", "labels"), read_task),
    "strings of a head": (strings_of("task/task.json", "head"), predict_command),
    "columns of a task": (
        in_manifest("task/task.json", lambda c, f: c["columns"].update(encoding=code(f))),
        predict_command,
    ),
    "a head of one's own in a task": (in_manifest("task/task.json", own_head), predict_command),
    "a task's weights": (in_folder("task/task.json", "model.safetensors", saved), read_task),
    "a task's words": (in_folder("task/task.json", "static_words.txt", pickled), read_task),
    "a task's tokenizer": (in_folder("task/task.json", "tokenizer.json", pickled), read_task),
    "a task's language model is on the hub": (other_encoder(lambda f: "stranger/model"), read_task),
    "a task's language model is elsewhere": (other_encoder(model_elsewhere), read_task),
    "a task's language model is a path up": (other_encoder(lambda f: "encoder/../../model"), read_task),
    "embedding.json, pickled": (in_file("embedding/embedding.json", pickled), read_embedding),
    "a part of vectors": (in_folder("embedding/embedding.json", "part-00000.safetensors", saved), read_embedding),
    "layers, objects": (lambda f: replace(cache_entry(f), "layers.npy", objects(f)), read_cache),
    "layers, pickled": (lambda f: replace(cache_entry(f), "layers.npy", pickled(f)), read_cache),
    "an entry of the cache": (lambda f: cache_entry(f).write_bytes(pickled(f)), read_cache),
    "options.json, pickled": (in_file("bilm_tf/options.json", pickled), read_bilm_tf),
    "weights.hdf5, pickled": (in_file("bilm_tf/weights.hdf5", pickled), read_bilm_tf),
    "attributes": (in_hdf5(with_attributes), read_bilm_tf),
    "strings in HDF5": (in_hdf5(with_strings), read_bilm_tf),
    "bytes of any length in HDF5": (in_hdf5(with_bytes_of_any_length), read_bilm_tf),
    "references in HDF5": (in_hdf5(with_references), read_bilm_tf),
    "a link out of HDF5": (in_hdf5(with_external_link), read_bilm_tf),
    "storage outside of HDF5": (in_hdf5(with_external_storage), read_bilm_tf),
    "a virtual dataset": (in_hdf5(with_virtual_dataset), read_bilm_tf),
    "options in an archive": (in_archive("options.json", pickled), read_archive),
    "weights in an archive": (in_archive("weights.hdf5", saved), read_archive),
    "token_embedder.pkl": (in_file("many_langs/token_embedder.pkl", saved), read_many_langs),
    "encoder.pkl": (in_file("many_langs/encoder.pkl", saved), read_many_langs),
    "encoder.pkl, before zip": (
        in_file("many_langs_old/encoder.pkl", lambda f: saved(f, is_zip=False)),
        read_many_langs,
    ),
    "encoder.pkl, a plain pickle": (in_file("many_langs/encoder.pkl", pickled), read_many_langs),
    "char.dic": (in_file("many_langs/char.dic", pickled), read_many_langs),
    "the path of options": (
        in_file(
            "many_langs/config.json", lambda f: json.dumps({"config_path": str(outside(f) / "secret.txt")}).encode()
        ),
        read_many_langs,
    ),
    "a recipe applies": (yaml_tag("object/apply:os.system"), read_recipe),
    "a recipe makes": (yaml_tag("object/new:os.system"), read_recipe),
    "a recipe names": (in_file("recipe.yaml", lambda f: b"max_steps: !!python/name:os.system\n"), read_recipe),
    "a recipe of a task": (yaml_tag("object/apply:os.system"), read_finetune_recipe),
    "static vectors, pickled": (in_file("vectors.txt", pickled), read_vectors),
    "binary vectors, pickled": (in_file("vectors.bin", pickled), read_vectors),
    "static vectors, objects": (in_file("vectors.txt", objects), read_vectors),
    "examples, pickled": (in_file("examples.txt", pickled), read_examples),
    "a script among the examples": (dataset_with_script, read_examples),
}
READERS = {read for _, read in SLOTS.values()}
