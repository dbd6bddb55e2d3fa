"""Work in other processes, for a script that says nothing of processes."""

import subprocess
import sys

from elmolite.data.corpus import Corpus
from elmolite.data.worker_pool import worker_pool

SCRIPT = """
from elmolite.data import parallel_tokenization
from elmolite.data.prepare import prepare
parallel_tokenization.TASK_CHARACTERS = 2000
corpus = prepare(["text.txt"], "corpus", n_workers=2, show_progress=False)
print(len(corpus.train.tokens))
"""


def test_a_script_that_prepares_needs_no_guard(tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"The text of page {number}.\n\n" for number in range(500)))
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{len(Corpus.open(tmp_path / 'corpus').train.tokens)}\n"


def test_the_script_is_there_again_when_the_workers_have_begun():
    script = sys.modules["__main__"]
    with worker_pool(1) as pool:
        assert pool.submit(len, "abc").result() == 3
    assert sys.modules["__main__"] is script
