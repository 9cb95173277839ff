"""Batches laid out in every way a host may do it, and a mode that watches what is dispatched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from semtube.objectives.trajectories import Trajectories


@dataclass
class Document:
    """One text: token ids, which of them are content, and their states (T, D)."""

    ids: list[int]
    content: list[bool]
    states_TD: Tensor


@dataclass
class Batch:
    """Documents in a layout; `place[n]` are the (row, column) of the tokens of document n."""

    hidden_BTD: Tensor
    fields: dict[str, Tensor]
    place: list[list[tuple[int, int]]]
    padding_BT: Tensor

    @property
    def trajectories(self) -> Trajectories:
        return Trajectories.build(**self.fields)


LAYOUTS = ("right", "left", "packed_positions", "packed_two_rows", "packed_cu", "shuffled")


def random_documents(
    lengths: list[int], *, width: int = 5, seed: int = 0, all_content: bool = False
) -> list[Document]:
    """Documents with random tokens and states, and stretches of template between the content."""
    generator = torch.Generator().manual_seed(seed)
    documents = []
    for length in lengths:
        ids = torch.randint(3, 50, (length,), generator=generator).tolist()
        kept = torch.rand(length, generator=generator) < 0.75
        content = [True] * length if all_content else kept.tolist()
        states_TD = torch.randn(length, width, generator=generator, dtype=torch.float64)
        documents.append(Document(ids, content, states_TD))
    return documents


def lay_out(documents: list[Document], layout: str) -> Batch:
    """The documents as a batch; padding holds loud values that must not matter."""
    lengths = [len(document.ids) for document in documents]
    if layout in ("right", "left", "shuffled"):
        order = list(range(len(documents)))
        if layout == "shuffled":
            order = order[1:] + order[:1]
        rows, width = len(documents), max(lengths) + 3
        place = [[] for _ in documents]
        for row, n in enumerate(order):
            first = width - lengths[n] if layout == "left" else 0
            place[n] = [(row, first + j) for j in range(lengths[n])]
    elif layout == "packed_two_rows":
        half = (len(documents) + 1) // 2
        groups = [list(range(half)), list(range(half, len(documents)))]
        rows, width = 2, max(sum(lengths[n] for n in group) for group in groups) + 2
        place = [[] for _ in documents]
        for row, group in enumerate(groups):
            column = 0
            for n in group:
                place[n] = [(row, column + j) for j in range(lengths[n])]
                column += lengths[n]
    else:
        rows, width, place, column = 1, sum(lengths) + 4, [], 0
        for length in lengths:
            place.append([(0, column + j) for j in range(length)])
            column += length
    dtype, size = documents[0].states_TD.dtype, documents[0].states_TD.shape[1]
    hidden_BTD = 7 + torch.arange(rows * width * size, dtype=dtype).reshape(rows, width, size)
    ids_BT = torch.full((rows, width), 2)
    content_BT = torch.ones(rows, width, dtype=torch.bool)  # padding claims to be content
    attended_BT = torch.zeros(rows, width, dtype=torch.bool)
    position_BT = torch.zeros(rows, width, dtype=torch.long)
    for document, places in zip(documents, place, strict=True):
        for j, (row, column) in enumerate(places):
            hidden_BTD[row, column] = document.states_TD[j]
            ids_BT[row, column] = document.ids[j]
            content_BT[row, column] = document.content[j]
            attended_BT[row, column] = True
            position_BT[row, column] = j
    fields = {"attended_BT": attended_BT, "content_BT": content_BT, "input_ids_BT": ids_BT}
    if layout in ("packed_positions", "packed_two_rows"):
        fields["position_ids_BT"] = position_BT
    if layout == "packed_cu":
        fields["cu_seq_lens"] = torch.tensor([0, *lengths]).cumsum(0).int()
    return Batch(hidden_BTD, fields, place, ~attended_BT)


#: Operations whose result, or whose shape, the host must wait for.
SYNCHRONISING = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::nonzero_numpy",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::repeat_interleave",
}


@dataclass
class _Watch(TorchDispatchMode):
    """Count the dispatched operations; raise on one that reads the device back."""

    refuse: bool = True
    counts: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        self.counts[name] += 1
        masks = name == "aten::index" and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if self.refuse and (name in SYNCHRONISING or masks):
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def watch() -> type[_Watch]:
    return _Watch


@pytest.fixture
def documents_of() -> Callable[..., list[Document]]:
    return random_documents


@pytest.fixture
def batch_of() -> Callable[[list[Document], str], Batch]:
    return lay_out


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


@pytest.fixture
def document_type() -> type[Document]:
    return Document
