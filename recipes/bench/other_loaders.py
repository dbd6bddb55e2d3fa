r"""Hold the vectors of AllenNLP and of simple_elmo, for a model that elmolite wrote as HDF5, against elmolite's.

Each in an environment of its own, as pip gives it:

    python3.8 -m venv allennlp
    allennlp/bin/pip install allennlp==2.10.1 torch==1.12.1 typing_extensions==4.5.0 lmdb==1.4.1
    python3.9 -m venv simple && simple/bin/pip install simple_elmo==0.9.2 'tensorflow==2.20.*' tf_keras
    python recipes/bench/other_loaders.py mini-en sentences.txt --allennlp allennlp/bin/python \
        --simple-elmo simple/bin/python

Prints a JSON line a system: its versions, and the largest difference of each layer from elmolite's, every sentence from
zero state. An environment that is not named is left out.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from elmolite import ELMo
from elmolite.checkpoint import convert

ALLENNLP = """
import json, sys
import allennlp.version, numpy as np, torch
from allennlp.modules.elmo import _ElmoBiLm, batch_to_ids
from allennlp.nn.util import remove_sentence_boundaries
folder, sentences, out = sys.argv[1:]
bilm = _ElmoBiLm(folder + "/options.json", folder + "/weights.hdf5").eval()
found = {}
for number, line in enumerate(open(sentences, encoding="utf-8").read().splitlines()):
    bilm._elmo_lstm.reset_states()
    with torch.no_grad():
        output = bilm(batch_to_ids([line.split()]))
    layers = [remove_sentence_boundaries(layer, output["mask"])[0][0].numpy() for layer in output["activations"]]
    found[str(number)] = np.stack(layers)
np.savez(out, **found)
print(json.dumps({"allennlp": allennlp.version.VERSION, "torch": torch.__version__}))
"""

SIMPLE_ELMO = """
import json, sys
from importlib.metadata import version
import numpy as np
from simple_elmo import ElmoModel
folder, sentences, out = sys.argv[1:]
texts = [line.split() for line in open(sentences, encoding="utf-8").read().splitlines()]
model = ElmoModel()
model.load(folder, max_batch_size=len(texts))
vectors = model.get_elmo_vectors(texts, warmup=False, layers="all")
np.savez(out, **{str(i): vectors[i, :, : len(text)] for i, text in enumerate(texts)})
print(json.dumps({name: version(name) for name in ("simple_elmo", "tensorflow")}))
"""


def main() -> None:
    """Write the model, run the loaders, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder or a released model")
    parser.add_argument("sentences", type=Path, help="a sentence a line, white space between tokens, none blank")
    parser.add_argument("--allennlp", help="the Python that has AllenNLP")
    parser.add_argument("--simple-elmo", help="the Python that has simple_elmo")
    options = parser.parse_args()
    sentences = options.sentences.resolve()
    lines = sentences.read_text(encoding="utf-8").splitlines()
    ours = ELMo.from_pretrained(options.model).embed([line.split() for line in lines])
    with tempfile.TemporaryDirectory() as folder:
        convert(options.model, Path(folder) / "model")
        for python, code in ((options.allennlp, ALLENNLP), (options.simple_elmo, SIMPLE_ELMO)):
            if python is None:
                continue
            out = Path(folder) / "vectors.npz"
            command = [python, "-c", code, f"{folder}/model", str(sentences), str(out)]
            environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            with np.load(out) as theirs:
                each = [np.abs(theirs[str(i)] - layers).max(axis=(1, 2)) for i, layers in enumerate(ours)]
            versions = json.loads(done.stdout.splitlines()[-1])
            worst = [float(f"{value:.2g}") for value in np.max(each, axis=0)]
            print(json.dumps({**versions, "sentences": len(lines), "largest difference by layer": worst}))


if __name__ == "__main__":
    main()
