"""One run seed gives named, independent streams.

A draw of one kind (say, the order of the data) never shifts a draw of another (say, the
triplets), so two arms that differ only in the objective see the same weights and batches.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Stream = Literal["init", "order", "dropout", "spans", "fraction", "bootstrap", "generator"]


def stream_seed(seed: int, stream: Stream) -> int:
    """Seed of one named stream: the first 4 bytes of sha256("seed/stream"), in [0, 2^32).

    32 bits, because numpy's and the Trainer's global seeds take no more.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
