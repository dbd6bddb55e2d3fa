"""What the vectors of a file depend on, beside the model and the text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elmolite.embedding.layer_choice import LayerChoice
from elmolite.errors import InputError, nearest
from elmolite.utils.config import Precision, check_precision

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class EmbeddingSettings:
    """Which layers, how many tokens at once, how exact on disk and in computing, and how lines are cut."""

    layers: LayerChoice
    batch_tokens: int
    dtype: str
    pretokenized: bool
    precision: Precision

    def check(self, *, is_folder: bool) -> None:
        """Refuse what cannot be written.

        :raises InputError: the dtype or the precision is unknown, or the dtype not for one file.
        """
        check_precision(self.precision)
        if self.dtype not in DTYPES:
            raise InputError(f"dtype: unknown {self.dtype!r}{nearest(self.dtype, DTYPES)}")
        if self.dtype == "bfloat16" and not is_folder:
            raise InputError("dtype bfloat16: numpy and HDF5 have none; write a folder, or take float16")

    def convert(self, vectors: NDArray[np.float32]) -> Tensor:
        """Return vectors as they are written.

        :raises InputError: one is too large for float16.
        """
        converted = torch.from_numpy(vectors).to(DTYPES[self.dtype])
        if self.dtype == "float16" and bool(converted.isinf().any()):
            raise InputError("dtype float16: this model's vectors are too large for it; take bfloat16 or float32")
        return converted
