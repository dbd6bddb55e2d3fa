"""What tells a model from every other, as it is in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import torch

from elmolite.embedding.elmo import ELMo


def model_hash(elmo: ELMo) -> str:
    """Hash all that vectors depend on, wherever a model was read from and whatever has been done to it since."""
    digest = hashlib.sha256(
        json_line([asdict(elmo.bilm.config), elmo.indexer.reads, elmo.indexer.names(), elmo.precision])
    )
    for name, tensor in elmo.state_dict().items():
        digest.update(json_line([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def json_line(content: Any) -> bytes:
    """Return content as a line of JSON, to be hashed."""
    return json.dumps(content).encode() + b"\n"
