"""How far elmolite's vectors are from the original implementations', and from themselves in other batches.

    python recipes/bench/parity.py FOLDER

FOLDER holds models with outputs of the original code: ``allennlp_fixture``, ``bilm_tf_fixture`` (the top layer, states
carried over ten batches of three sentences), ``zero_state_tiny`` and ``elmoformanylangs_tiny`` (all layers). Prints the
largest absolute difference of each file and layer, then that of a model's vectors in 1,000 random batchings.
"""

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
import torch

from elmolite import ELMo

N_BATCHINGS = 1000


def from_zero_state(folder: Path) -> dict[str, float]:
    """Compare all layers of every sentence."""
    elmo = ELMo.from_pretrained(folder)
    lines = (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()
    with np.load(folder / "layers.npz") as expected:
        vectors = elmo.embed([line.split() for line in lines])
        each = [np.abs(layers - expected[f"s{i}"]).max(axis=(1, 2)) for i, layers in enumerate(vectors)]
    return {f"layer {layer}": value for layer, value in enumerate(np.max(each, axis=0))}


def with_carried_state(folder: Path, sentences: str) -> dict[str, float]:
    """Compare the top layer of ten batches."""
    elmo = ELMo.from_pretrained(folder)
    texts = json.loads((folder / sentences).read_text(encoding="utf-8"))
    expected = [h5py.File(folder / f"lm_embeddings_{k}.hdf5") for k in range(3)]
    worst = np.zeros(3)
    for batch in range(10):
        found = elmo.embed([each[batch].split() for each in texts], layers="top", carry_state=True)
        for k, vectors in enumerate(found):
            difference = np.abs(vectors - np.concatenate(list(expected[k][str(batch)]), axis=1)).max()
            worst[k] = max(worst[k], difference)
    return {f"lm_embeddings_{k}.hdf5, top layer": value for k, value in enumerate(worst)}


def of_tokens(folder: Path) -> dict[str, float]:
    """Compare the token layer of the vocabulary."""
    elmo = ELMo.from_pretrained(folder)
    words = (folder / "vocab_test.txt").read_text(encoding="utf-8").split("\n")
    with h5py.File(folder / "elmo_token_embeddings.hdf5") as file:
        expected = file["embedding"][...]
    marks = elmo.bilm.token_encoder(torch.from_numpy(elmo.indexer.sentence_marks())).detach().numpy()
    found = [
        marks[("<S>", "</S>").index(w)] if w in ("<S>", "</S>") else elmo.embed([[w]], layers=0)[0][0] for w in words
    ]
    each = [np.abs(vector[: elmo.size // 2] - row).max() for vector, row in zip(found, expected, strict=True)]
    return {"elmo_token_embeddings.hdf5, layer 0": max(each)}


def in_random_batches(model: str, lines: list[str]) -> float:
    """Return the largest difference of a sentence's vectors from those that it has alone."""
    elmo = ELMo.from_pretrained(model)
    sentences = [line.split() for line in lines]
    alone = [elmo.embed([sentence])[0] for sentence in sentences]
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(N_BATCHINGS):
        chosen = rng.choice(len(sentences), rng.integers(1, len(sentences)), replace=True).tolist()
        found = elmo.embed([sentences[i] for i in chosen], batch_tokens=int(rng.integers(1, 2000)))
        worst = max(worst, *(float(np.abs(each - alone[i]).max()) for each, i in zip(found, chosen, strict=True)))
        if rng.random() < 0.5:
            elmo.word_cache.clear()
    return worst


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows = {name: from_zero_state(folder / name) for name in ("zero_state_tiny", "elmoformanylangs_tiny")}
    allennlp, bilm_tf = folder / "allennlp_fixture", folder / "bilm_tf_fixture"
    rows["allennlp_fixture"] = with_carried_state(allennlp, "sentences.json") | of_tokens(allennlp)
    rows["bilm_tf_fixture"] = with_carried_state(bilm_tf, "lm_embeddings_sentences.json")
    for name, parts in rows.items():
        for part, value in parts.items():
            print(f"{name:<22} {part:<36} {value:.1e}")
    lines = (folder / "zero_state_tiny" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    for model in (str(folder / "zero_state_tiny"), "mini-en"):
        print(f"{Path(model).name:<22} {f'{N_BATCHINGS:,} random batchings':<36} {in_random_batches(model, lines):.1e}")


if __name__ == "__main__":
    main()
