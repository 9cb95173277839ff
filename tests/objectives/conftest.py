"""Batches laid out in every way a host may do it, a toy model that encodes, and plain oracles.

Shape letters: B rows, T tokens, D hidden size, N documents, R rows of an extra pass, W its width,
V vocabulary, K learned vectors.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from semtube.objectives.objective import PADDING_INDEX, VECTOR, Objective
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import (
    ANSWER,
    CONTENT_ROLES,
    PROMPT,
    SYSTEM,
    TEMPLATE,
    Trajectories,
)


@dataclass
class Document:
    """One text: token ids, which of them are content, and their states (T, D).

    With `roles`, it has a prompt and an answer too, and its answer is what is supervised.
    """

    ids: list[int]
    content: list[bool]
    states_TD: Tensor
    roles: list[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, role: int) -> list[int]:
        return [j for j, of_token in enumerate(self.roles) if of_token == role]

    @property
    def path(self) -> list[int]:
        return [j for j, kept in enumerate(self.content) if kept]

    @property
    def predicting(self) -> list[int]:
        """Tokens whose successor is of the answer."""
        return [j - 1 for j in self.places(ANSWER) if j > 0]


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


def dialogue(roles: Sequence[int], *, seed: int = 0, width: int = 5, content="text") -> Document:
    """A text of these roles with random tokens and states."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 50, (len(roles),), generator=generator).tolist()
    states_TD = torch.randn(len(roles), width, generator=generator, dtype=torch.float64)
    kept = [role in CONTENT_ROLES[content] for role in roles]
    return Document(ids, kept, states_TD, list(roles))


#: Prompts and answers of one to several tokens, in one stretch or several, behind and before
#: template or not, from the first token on or not. Neither view is empty, each can move.
SHAPES = (
    [
        TEMPLATE,
        SYSTEM,
        SYSTEM,
        TEMPLATE,
        *[PROMPT] * 5,
        TEMPLATE,
        TEMPLATE,
        *[ANSWER] * 4,
        TEMPLATE,
    ],
    [PROMPT, PROMPT, PROMPT, ANSWER, ANSWER],
    [TEMPLATE, PROMPT, ANSWER, ANSWER],
    [TEMPLATE, PROMPT, TEMPLATE, PROMPT, PROMPT, TEMPLATE, ANSWER, TEMPLATE, TEMPLATE, ANSWER],
    [SYSTEM, TEMPLATE, *[PROMPT] * 9, ANSWER, ANSWER, ANSWER, TEMPLATE],
)
#: Too little of something: of the prompt, the answer, both, or of all but one token.
DEGENERATE = (
    [PROMPT, ANSWER],
    [TEMPLATE, ANSWER, ANSWER, ANSWER],
    [TEMPLATE, PROMPT, PROMPT, PROMPT, TEMPLATE],
    [TEMPLATE, SYSTEM, TEMPLATE],
    [PROMPT],
    [ANSWER],
    [TEMPLATE],
    [],
)


def dialogues(
    shapes: Sequence[Sequence[int]] = SHAPES, *, seed: int = 0, **options
) -> list[Document]:
    return [dialogue(roles, seed=1000 * seed + n, **options) for n, roles in enumerate(shapes)]


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
    if documents[0].roles is not None:
        for name in ("prompt_BT", "answer_BT", "predicting_BT"):
            fields[name] = ~attended_BT  # padding claims to be everything
        for document, places in zip(documents, place, strict=True):
            for j, where in enumerate(places):
                fields["prompt_BT"][where] = document.roles[j] == PROMPT
                fields["answer_BT"][where] = document.roles[j] == ANSWER
                fields["predicting_BT"][where] = j in document.predicting
    if layout in ("packed_positions", "packed_two_rows"):
        fields["position_ids_BT"] = position_BT
    if layout == "packed_cu":
        fields["cu_seq_lens"] = torch.tensor([0, *lengths]).cumsum(0).int()
    return Batch(hidden_BTD, fields, place, ~attended_BT)


# --- A model that encodes.


class ToyModel:
    """A tiny causal model: a state mixes its own input, its position and the mean of the past.

    `read` is the model as a plain loop over one text; `ToyEncoder` is the same for packed rows.
    """

    def __init__(self, width: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(seed)
        table_VD = torch.randn(64, width, generator=generator, dtype=torch.float64)
        self.own_DD, self.past_DD = torch.randn(
            2, width, width, generator=generator, dtype=torch.float64
        ).to(dtype)
        self.head_DV = torch.randn(width, 7, generator=generator, dtype=torch.float64).to(dtype)
        self.table_VD = table_VD.to(dtype).requires_grad_()

    def read(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The states of one text, from its input vectors."""
        states, past_D = [], torch.zeros_like(self.own_DD[0])
        for j, input_D in enumerate(inputs):
            past_D = past_D + torch.tanh(input_D @ self.past_DD)
            states.append(torch.tanh(input_D @ self.own_DD / 2 + past_D / (j + 1) + math.sin(j)))
        return states

    def inputs(self, ids: Sequence[int]) -> list[Tensor]:
        return [self.table_VD[number] for number in ids]


class ToyEncoder:
    """The `Encoder` of a batch; it refuses an index or position that no text can have.

    Args:
        stored: what its outputs are rounded to, as a model of that type would give them.
        widened: hand them out in the model's own type all the same.
    """

    def __init__(
        self,
        model: ToyModel,
        ids_BT: Tensor,
        again_BTD: Tensor | None = None,
        *,
        stored: torch.dtype | None = None,
        widened: bool = False,
    ) -> None:
        self.model, self.ids_BT, self.again_BTD = model, ids_BT, again_BTD
        self._dtype = model.table_VD.dtype
        self._stored, self._widened = stored or self._dtype, widened

    def _given(self, value: Tensor) -> Tensor:
        value = value.to(self._stored)
        return value.to(self._dtype) if self._widened else value

    def __call__(
        self, index_RW: Tensor, position_RW: Tensor, vectors_KD: Tensor | None = None
    ) -> Tensor:
        number = 0 if vectors_KD is None else len(vectors_KD)
        assert (index_RW < self.ids_BT.numel()).all()
        assert (index_RW > VECTOR - number).all()
        assert position_RW.shape == index_RW.shape
        goes_on_RW = position_RW[:, 1:] == position_RW[:, :-1] + 1
        assert (goes_on_RW | (position_RW[:, 1:] == 0)).all()
        assert (position_RW[:, 0] == 0).all()
        input_RWD = self.model.table_VD[self.ids_BT.flatten()[index_RW.clamp_min(0)]]
        input_RWD = torch.where((index_RW == PADDING_INDEX)[..., None], 50, input_RWD)
        if vectors_KD is not None:
            vector_RWD = vectors_KD.to(self._dtype)[(VECTOR - index_RW).clamp_min(0)]
            input_RWD = torch.where((index_RW <= VECTOR)[..., None], vector_RWD, input_RWD)
        text_RW = (position_RW == 0).cumsum(1)
        seen_RWW = (text_RW[:, :, None] == text_RW[:, None, :]).tril().to(self._dtype)
        past_RWD = seen_RWW @ torch.tanh(input_RWD @ self.model.past_DD)
        place_RW1 = position_RW[..., None].to(self._dtype)
        mean_RWD = past_RWD / (place_RW1 + 1)
        own_RWD = input_RWD @ self.model.own_DD / 2
        return self._given(torch.tanh(own_RWD + mean_RWD + torch.sin(place_RW1)))

    def embed(self, index: Tensor) -> Tensor:
        return self._given(self.model.table_VD[self.ids_BT.flatten()[index]])

    def logits(self, states: Tensor) -> Tensor:
        return self._given(states.to(self._dtype) @ self.model.head_DV)

    def again(self) -> Tensor:
        assert self.again_BTD is not None
        return self._given(self.again_BTD)


def random_parts(objective: Objective, width: int = 5, seed: int = 0) -> nn.Module | None:
    """The learnable parts in float64, far from where they start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        parts = objective.build_parts(width)
    if parts is not None:
        parts = parts.double()
        for parameter in parts.parameters():
            value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = 0.5 * value / objective.predictor_rate
    return parts


#: A document's costs from (document, its states, its index n in the batch); None is not counted.
Oracle = Callable[[Document, Tensor, int], "list[Tensor | None]"]


def check_against_oracle(
    term: LossTerm,
    documents: list[Document],
    batch: Batch,
    hidden_BTD: Tensor,
    oracle: Oracle,
    *leaves: Tensor,
    rtol: float = 1e-11,
) -> None:
    """Totals, counts, and gradients at the states and at the other leaves."""
    document_BT = batch.trajectories.document_BT
    total_N = [torch.zeros((), dtype=torch.float64) for _ in term.total_N]
    count_N = [0] * len(term.total_N)
    for document, places in zip(documents, batch.place, strict=True):
        if places:
            n = int(document_BT[places[0]])
            states_TD = torch.stack([hidden_BTD[place] for place in places])
            costs = [cost for cost in oracle(document, states_TD, n) if cost is not None]
            total_N[n], count_N[n] = sum(costs, start=total_N[n]), len(costs)
    assert term.count_N.tolist() == count_N
    assert sum(count_N) >= 2
    total_N = torch.stack(total_N)
    torch.testing.assert_close(term.total_N.double(), total_N, rtol=rtol, atol=rtol)
    # Each document under its own factor, so that a mix-up between documents shows.
    factor_N = torch.linspace(0.5, 2, len(total_N), dtype=torch.float64)
    wanted = [hidden_BTD, *leaves]
    ours = torch.autograd.grad((factor_N * term.total_N).sum(), wanted, allow_unused=True)
    theirs = torch.autograd.grad((factor_N * total_N).sum(), wanted, allow_unused=True)
    for leaf, our, their in zip(wanted, ours, theirs, strict=True):
        our = torch.zeros_like(leaf) if our is None else our
        their = torch.zeros_like(leaf) if their is None else their
        size = their.abs().max().item()
        torch.testing.assert_close(our, their, rtol=100 * rtol, atol=100 * rtol * max(size, 1e-3))
    assert any(their is not None and their.abs().max() > 1e-3 for their in theirs)


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


@pytest.fixture(scope="session")
def dialogue_of() -> Callable[..., Document]:
    return dialogue


@pytest.fixture(scope="session")
def dialogues_of() -> Callable[..., list[Document]]:
    return dialogues


@pytest.fixture(scope="session")
def degenerate() -> Sequence[Sequence[int]]:
    return DEGENERATE


@pytest.fixture(scope="session")
def toy_model() -> type[ToyModel]:
    return ToyModel


@pytest.fixture(scope="session")
def toy_encoder() -> type[ToyEncoder]:
    return ToyEncoder


@pytest.fixture(scope="session")
def parts_of() -> Callable[..., nn.Module | None]:
    return random_parts


@pytest.fixture(scope="session")
def check_oracle() -> Callable[..., None]:
    return check_against_oracle


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


@pytest.fixture
def document_type() -> type[Document]:
    return Document
