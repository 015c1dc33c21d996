"""Random numbers that belong to an example and not to the order in which examples are made.

numpy keeps the raw output of its bit generators stable but promises nothing for its distributions, so only raw 64-bit
words of Philox4x64-10 (a counter-based generator) are taken, and mapped to numbers by the few lines below. A stream has
a key made from a description (settings, data seed, split); example i owns its own range of counters, so any example can
be drawn by itself, in any order, on any machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

_WORDS_PER_BLOCK = 4


class Stream:
    """Uniform numbers addressed by (example, attempt).

    Args:
        description: plain data (JSON) that names the stream; equal descriptions give equal numbers.
        words: numbers that one attempt of one example may use; rounded up to a multiple of 4.
    """

    def __init__(self, description: Any, words: int) -> None:
        text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
        digest = hashlib.sha256(text.encode()).digest()
        self._key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
        self._blocks = -(-words // _WORDS_PER_BLOCK)
        self.words = words

    def uniform(self, ids: Sequence[int] | np.ndarray, attempt: int = 0) -> np.ndarray:
        """Return float64 in [0, 1), (len(ids), words): multiples of 2⁻⁵³, the same on every machine.

        Args:
            ids: examples, each in [0, 2⁵⁰).
            attempt: counts redraws of the same example; attempts are independent.
        """
        index = np.asarray(ids, dtype=np.int64)
        raw = np.empty((len(index), self._blocks * _WORDS_PER_BLOCK), dtype=np.uint64)
        if len(index) == 0:
            return np.empty((0, self.words))
        starts = np.flatnonzero(np.diff(index, prepend=index[:1] - 2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(index)], strict=True):  # runs of consecutive examples
            counter = np.array([int(index[start]) * self._blocks, attempt, 0, 0], dtype=np.uint64)
            generator = np.random.Philox(key=self._key, counter=counter)
            raw[start:stop] = generator.random_raw((stop - start) * raw.shape[1]).reshape(stop - start, -1)
        return (raw[:, : self.words] >> np.uint64(11)).astype(np.float64) * 2.0**-53
