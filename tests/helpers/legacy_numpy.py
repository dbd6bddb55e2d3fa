"""The formats of bilm-tf and ELMoForManyLangs in plain numpy and float64: an independent reference implementation.

Nothing here comes from the package. Sentences are lists of tokens; layers are (L, tokens, 2 P).
"""

import json

import h5py
import numpy as np
import torch

BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = 256, 257, 258, 259, 260
WIDTH = 50


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def clip(x, limit):
    return np.clip(x, -limit, limit) if limit else x


ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}


def convolve(columns, weight, bias):
    """The maximum over all windows of (columns, D) with (width, D, filters)."""
    windows = np.lib.stride_tricks.sliding_window_view(columns, len(weight), axis=0)
    return np.einsum("ndw,wdf->nf", windows, weight).max(axis=0) + bias


def run_highway(x, new, gate):
    return sigmoid(gate) * x + (1 - sigmoid(gate)) * np.maximum(new, 0)


def run_cell(cell, inputs, state, *, cell_clip, projection_clip):
    """An LSTM over (T, P), its gates i, j, f, o and the forget bias in the bias: the outputs and the last state."""
    hidden, memory = state
    outputs = []
    for x in inputs:
        i, j, f, o = np.split(np.concatenate([x, hidden]) @ cell["kernel"] + cell["bias"], 4)
        memory = clip(sigmoid(f) * memory + sigmoid(i) * np.tanh(j), cell_clip)
        hidden = sigmoid(o) * np.tanh(memory)
        if cell["projection"] is not None:
            hidden = clip(hidden @ cell["projection"], projection_clip)
        outputs.append(hidden)
    return np.array(outputs), (hidden, memory)


class NumpyModel:
    """Words -> layers, from a function that encodes a word and the cells of both directions."""

    def __init__(self, encode, cells, *, skips, cell_clip, projection_clip):
        self.encode = encode
        self.cells = cells
        self.skips = skips
        self.clips = {"cell_clip": cell_clip, "projection_clip": projection_clip}
        self.states = {}  # of each row, for carried state

    def layers(self, sentence, row=None):
        """All layers of a sentence, from zero state, or from that in which the row's last sentence ended."""
        words = [self.encode(word) for word in ("<S>", *sentence, "</S>")]
        sides = [self._direction(d, words[::-1] if d else words, row) for d in (0, 1)]
        return np.concatenate([sides[0], sides[1][:, ::-1]], axis=2)[:, 1:-1]

    def _direction(self, direction, words, row):
        x = np.array(words)
        layers = [x]
        for number, cell in enumerate(self.cells[direction]):
            n_cells = len(cell["bias"]) // 4
            zero = (np.zeros(x.shape[1]), np.zeros(n_cells))
            state = self.states.get((row, direction, number), zero)
            outputs, after = run_cell(cell, x, state, **self.clips)
            if row is not None:
                self.states[row, direction, number] = after
            x = outputs + x if self.skips and number else outputs
            layers.append(x)
        return np.stack(layers)


def arrays_of(path):
    """All arrays of an HDF5 file."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[...]}) if hasattr(item, "shape") else None)
    return found


def read_bilm_tf(options_path, weights_path):
    """A model of bilm-tf."""
    options = json.loads(options_path.read_text())
    arrays = {name: array.astype(np.float64) for name, array in arrays_of(weights_path).items()}
    cnn, lstm = options["char_cnn"], options["lstm"]

    def encode(word):
        symbols = {"<S>": [BEGIN_SENTENCE], "</S>": [END_SENTENCE]}.get(word) or list(word.encode())[: WIDTH - 2]
        ids = [BEGIN_WORD, *symbols, END_WORD]
        columns = arrays["char_embed"][ids + [PADDING] * (WIDTH - len(ids))]
        features = [
            convolve(columns, arrays[f"CNN/W_cnn_{i}"][0], arrays[f"CNN/b_cnn_{i}"]) for i in range(len(cnn["filters"]))
        ]
        x = ACTIVATIONS[cnn["activation"]](np.concatenate(features))
        for i in range(cnn.get("n_highway") or 0):
            new, carry = (
                x @ arrays[f"CNN_high_{i}/W_{part}"] + arrays[f"CNN_high_{i}/b_{part}"]
                for part in ("transform", "carry")
            )
            x = run_highway(x, new, -carry)  # in spite of its name, it is the share of the new values
        return x @ arrays["CNN_proj/W_proj"] + arrays["CNN_proj/b_proj"] if "CNN_proj/W_proj" in arrays else x

    def cell(direction, number):
        name = f"RNN_{direction}/RNN/MultiRNNCell/Cell{number}/LSTMCell/"
        bias = arrays[name + "B"].copy()
        n_cells = len(bias) // 4
        bias[2 * n_cells : 3 * n_cells] += 1
        return {"kernel": arrays[name + "W_0"], "bias": bias, "projection": arrays.get(name + "W_P_0")}

    return NumpyModel(
        encode,
        [[cell(direction, number) for number in range(lstm["n_layers"])] for direction in (0, 1)],
        skips=lstm.get("use_skip_connections"),
        cell_clip=lstm.get("cell_clip"),
        projection_clip=lstm.get("proj_clip"),
    )


LSTM_SIZES = {"projection_dim": 6, "cell_clip": 0.5, "proj_clip": 0.5, "dim": 8, "n_layers": 2}


def write_bilm_tf(folder, *, lstm=None, cnn=None, seed=0, names=("options.json", "weights.hdf5")):
    """A model at random; the weights of the cells are large enough that the clips are reached."""
    lstm = {**LSTM_SIZES, "use_skip_connections": True, **(lstm or {})}
    cnn = {
        "activation": "relu",
        "filters": [[1, 3], [2, 4], [3, 5]],
        "n_highway": 2,
        "embedding": {"dim": 4},
        "n_characters": 262,
        "max_characters_per_token": 50,
        **(cnn or {}),
    }
    lstm, cnn = ({key: value for key, value in each.items() if value is not None} for each in (lstm, cnn))
    rng = np.random.default_rng(seed)
    n_filters, size, n_cells = sum(n for _, n in cnn["filters"]), lstm["projection_dim"], lstm["dim"]
    shapes = {"char_embed": (261, cnn["embedding"]["dim"])}
    for i, (width, count) in enumerate(cnn["filters"]):
        shapes |= {f"CNN/W_cnn_{i}": (1, width, cnn["embedding"]["dim"], count), f"CNN/b_cnn_{i}": (count,)}
    for i in range(cnn.get("n_highway", 0)):
        for part in ("carry", "transform"):
            shapes |= {f"CNN_high_{i}/W_{part}": (n_filters, n_filters), f"CNN_high_{i}/b_{part}": (n_filters,)}
    if n_filters != size:
        shapes |= {"CNN_proj/W_proj": (n_filters, size), "CNN_proj/b_proj": (size,)}
    for direction in (0, 1):
        for number in range(lstm["n_layers"]):
            name = f"RNN_{direction}/RNN/MultiRNNCell/Cell{number}/LSTMCell/"
            shapes |= {name + "W_0": (2 * size, 4 * n_cells), name + "B": (4 * n_cells,)}
            if n_cells != size:
                shapes[name + "W_P_0"] = (n_cells, size)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(json.dumps({"lstm": lstm, "char_cnn": cnn, "n_epochs": 10}))
    with h5py.File(folder / names[1], "w") as file:
        for name, shape in shapes.items():
            scale = 1.0 if name.startswith("RNN") else 0.3
            file[name] = rng.normal(scale=scale, size=shape).astype(np.float32)
    return folder


MARKS = ("<bos>", "<eos>", "<oov>", "<pad>", "<bow>", "<eow>")


def read_many_langs(folder):
    """A model of ELMoForManyLangs."""
    config = json.loads((folder / json.loads((folder / "config.json").read_text())["config_path"]).read_text())
    embedder, encoder = config["token_embedder"], config["encoder"]
    lexicons = {}
    for name in ("char", "word"):
        if (folder / f"{name}.dic").exists():
            lines = [line.strip().split("\t") for line in (folder / f"{name}.dic").read_text().splitlines()]
            lexicons[name] = {line[0] if len(line) > 1 else "\u3000": int(line[-1]) for line in lines}
    weights = {}
    for name in ("token_embedder", "encoder"):
        loaded = torch.load(folder / f"{name}.pkl", weights_only=True)
        weights |= {key: value.numpy().astype(np.float64) for key, value in loaded.items()}

    def encode(word):
        word = {"<S>": "<bos>", "</S>": "<eos>"}.get(word, word[: WIDTH - 2])
        chars = lexicons["char"]
        symbols = [chars[word]] if word in ("<bos>", "<eos>") else [chars.get(each, chars["<oov>"]) for each in word]
        ids = [chars["<eow>"], *symbols, chars["<bow>"]]
        columns = weights["char_emb_layer.embedding.weight"][ids + [chars["<pad>"]] * (WIDTH - len(ids))]
        features = [
            convolve(columns, weights[f"convolutions.{i}.weight"].transpose(2, 1, 0), weights[f"convolutions.{i}.bias"])
            for i in range(len(embedder["filters"]))
        ]
        x = ACTIVATIONS[embedder["activation"]](np.concatenate(features))
        for i in range(embedder["n_highway"]):
            both = weights[f"highways._layers.{i}.weight"] @ x + weights[f"highways._layers.{i}.bias"]
            x = run_highway(x, *np.split(both, 2))
        if embedder["word_dim"]:
            words = lexicons["word"]
            x = np.concatenate([weights["word_emb_layer.embedding.weight"][words.get(word, words["<oov>"])], x])
        return weights["projection.weight"] @ x + weights["projection.bias"]

    def reordered(gates):
        i, f, j, o = np.split(gates, 4)
        return np.concatenate([i, j, f, o])

    def cell(direction, number):
        name = f"{direction}_layer_{number}."
        kernels = [weights[f"{name}{part}_linearity.weight"] for part in ("input", "state")]
        return {
            "kernel": np.concatenate([reordered(kernel).T for kernel in kernels]),
            "bias": reordered(weights[name + "state_linearity.bias"]),
            "projection": weights[name + "state_projection.weight"].T,
        }

    return NumpyModel(
        encode,
        [[cell(direction, number) for number in range(encoder["n_layers"])] for direction in ("forward", "backward")],
        skips=True,
        cell_clip=encoder["cell_clip"],
        projection_clip=encoder["proj_clip"],
    )


def write_many_langs(folder, *, word_dim=5, is_zip=True):
    """A model at random."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "encoder": {"name": "elmo", **LSTM_SIZES},
        "token_embedder": {
            "name": "cnn",
            "activation": "tanh",
            "filters": [[1, 3], [2, 4]],
            "n_highway": 1,
            "word_dim": word_dim,
            "char_dim": 4,
            "max_characters_per_token": 50,
        },
    }
    (folder / "config.json").write_text(json.dumps({"config_path": "sizes.json", "seed": 1}))
    (folder / "sizes.json").write_text(json.dumps(config))
    chars = [*"abcdeé東", *MARKS, "\u3000"]
    (folder / "char.dic").write_text("".join(f"{token}\t{i}\n" for i, token in enumerate(chars)))
    lexicon = [*MARKS[:4], "bad", "cab", "deed"]
    embedder = {"char_emb_layer.embedding.weight": torch.randn(len(chars), 4)}
    if word_dim:
        (folder / "word.dic").write_text("".join(f"{token}\t{i}\n" for i, token in enumerate(lexicon)))
        embedder["word_emb_layer.embedding.weight"] = torch.randn(len(lexicon), word_dim)
    for i, (width, count) in enumerate(config["token_embedder"]["filters"]):
        embedder[f"convolutions.{i}.weight"] = torch.randn(count, 4, width)
        embedder[f"convolutions.{i}.bias"] = torch.randn(count)
    embedder |= {"highways._layers.0.weight": torch.randn(14, 7), "highways._layers.0.bias": torch.randn(14)}
    embedder |= {"projection.weight": torch.randn(6, word_dim + 7) / 4, "projection.bias": torch.randn(6)}
    encoder = {}
    for direction in ("forward", "backward"):
        for number in range(2):
            name = f"{direction}_layer_{number}."
            encoder |= {f"{name}{part}_linearity.weight": torch.randn(32, 6) for part in ("input", "state")}
            encoder[name + "state_linearity.bias"] = torch.randn(32)
            encoder[name + "state_projection.weight"] = torch.randn(6, 8)
    for name, state in (("token_embedder", embedder), ("encoder", encoder)):
        torch.save(state, folder / f"{name}.pkl", _use_new_zipfile_serialization=is_zip)
    return folder


def assert_same(elmo, model, sentences):
    """Compare all layers of an ``ELMo`` with those of a numpy model."""
    for sentence, layers in zip(sentences, elmo.embed(sentences), strict=True):
        if sentence:
            np.testing.assert_allclose(layers, model.layers(sentence), rtol=0, atol=1e-5)
        else:
            assert layers.shape == (elmo.n_layers, 0, elmo.size)
