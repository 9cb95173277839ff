"""What every objective keeps to, whatever it computes; and what the tube's options add.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import dataclass, fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from semtube.objectives import tube
from semtube.objectives.catalogue import OBJECTIVES, objective_from_dict
from semtube.objectives.curvature import Curvature
from semtube.objectives.directions import at_rate as faster
from semtube.objectives.llm_jepa import LLMJepa
from semtube.objectives.masked_span import MaskedSpan
from semtube.objectives.next_latent import NextLatent
from semtube.objectives.objective import Objective
from semtube.objectives.r_drop import RDrop
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import ANSWER, PROMPT, SYSTEM, TEMPLATE, Trajectories
from semtube.objectives.tube import SemanticTube
from semtube.objectives.two_view import TwoView
from semtube.objectives.weights import Adaptive, Dropped, Ramp

#: Every class, with its main options.
CASES: list[Objective] = [
    SemanticTube(draws=3),
    SemanticTube(form="span", draws=3),
    SemanticTube(form="span", law="sequential", length_weight="linear", predictor="linear"),
    SemanticTube(draws=2, max_length=3, length_weight="quadratic", predictor="linear"),
    TwoView(),
    TwoView(form="mean"),
    TwoView(form="branch"),
    TwoView(predictor="linear"),
    MaskedSpan(),
    MaskedSpan(target="full"),
    MaskedSpan(target="span"),
    MaskedSpan(predictor="linear", content="instruction"),
    Curvature(),
    Curvature(content="all"),
    LLMJepa(),
    LLMJepa(predictor_tokens=0),
    LLMJepa(predictor_tokens=2, reverse=True, predictor="linear"),
    LLMJepa(distance="l2"),
    LLMJepa(distance="mse"),
    LLMJepa(distance="infonce"),
    RDrop(),
    NextLatent(),
    NextLatent(horizon=2, content="text"),
]
#: By its docstring it alone depends on which documents share a forward pass.
APART = [case for case in CASES if getattr(case, "distance", "") != "infonce"]


def every(cases: list[Objective]):
    return pytest.mark.parametrize("objective", cases, ids=repr)


def draws(objective: Objective) -> bool:
    """Whether anything is random in it."""
    return isinstance(objective, SemanticTube | MaskedSpan) or objective == TwoView(form="branch")


def reads_states(objective: Objective) -> bool:
    """Whether it reads the main pass; else the encoder's output alone."""
    return not (isinstance(objective, LLMJepa) or objective == MaskedSpan(target="span"))


def test_every_objective_is_among_the_cases():
    assert {type(case) for case in CASES} == set(OBJECTIVES.values())


# --- Setting up.


@dataclass
class Ready:
    """An objective with all that it learns from and reads."""

    objective: Objective
    toy: object
    parts: nn.Module | None
    toy_encoder: type
    hidden_BTD: Tensor = None
    again_BTD: Tensor = None

    def __call__(
        self, batch, key: int = 3, *, hidden_BTD=None, again_BTD=None, ids_BT=None, **options
    ) -> LossTerm:
        """The second pass of the model has states that depend on the first's."""
        hidden_BTD = batch.hidden_BTD if hidden_BTD is None else hidden_BTD
        self.hidden_BTD = hidden_BTD.detach().clone().requires_grad_()
        if again_BTD is None:
            again_BTD = 0.8 * hidden_BTD.detach() + 0.3 * hidden_BTD.detach().sin()
        self.again_BTD = again_BTD.requires_grad_()
        ids_BT = batch.fields["input_ids_BT"] if ids_BT is None else ids_BT
        encoder = self.toy_encoder(self.toy, ids_BT, self.again_BTD, **options)
        return self.objective(
            self.hidden_BTD, batch.trajectories, key, parts=self.parts, encoder=encoder
        )

    @property
    def leaves(self) -> list[Tensor]:
        learned = [] if self.parts is None else list(self.parts.parameters())
        return [self.hidden_BTD, self.again_BTD, self.toy.table_VD, *learned]


@pytest.fixture
def ready(toy_model, toy_encoder, parts_of):
    def make(objective: Objective, dtype: torch.dtype = torch.float64) -> Ready:
        parts = parts_of(objective)
        return Ready(
            objective,
            toy_model(dtype=dtype),
            None if parts is None else parts.to(dtype),
            toy_encoder,
        )

    return make


def gradients(total: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, found, strict=True)
    ]


def number_of(batch, place: list[tuple[int, int]]) -> int:
    return int(batch.trajectories.document_BT[place[0]])


# --- Values and gradients.


@every(CASES)
def test_values_are_finite_and_gradients_arrive_where_they_should(
    objective, ready, dialogues_of, batch_of
):
    batch, run = batch_of(dialogues_of(content=objective.content), "right"), ready(objective)
    term = run(batch)
    assert term.total_N.shape == term.count_N.shape == (5,)
    assert not term.count_N.is_floating_point()
    assert (term.total_N.isfinite() & (term.total_N > 1e-4)).all()
    assert (term.count_N > 0).all()
    torch.testing.assert_close(term.mean_N * term.count_N, term.total_N)
    hidden, again, table, *learned = gradients(term.total_N.sum(), run.leaves)
    for gradient in (hidden, again, table, *learned):
        assert gradient.isfinite().all()
    assert bool(hidden.any()) is reads_states(objective)
    assert bool(again.any()) is isinstance(objective, RDrop)
    assert bool(table.any()) is isinstance(objective, MaskedSpan | LLMJepa | NextLatent)
    assert all(gradient.any() for gradient in learned)
    assert objective.encodes or not table.any()


@every(CASES)
@pytest.mark.parametrize("layout", ["left", "packed_cu"])
def test_each_document_sends_its_gradient_to_its_own_tokens_alone(
    objective, layout, ready, dialogues_of, batch_of
):
    batch = batch_of(dialogues_of(content=objective.content), layout)
    run = ready(objective)
    term, document_BT = run(batch), batch.trajectories.document_BT
    for n in range(3):
        hidden, again, *_ = gradients(term.total_N[n], run.leaves)
        for gradient in (hidden, again):
            # The span form's running sum leaves rounding residue.
            touched_BT = gradient.abs().sum(-1) > 1e-13 * gradient.abs().max()
            assert (document_BT[touched_BT] == n).all()


@every(CASES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_padding_is_ignored(objective, value, ready, dialogues_of, batch_of):
    # A fully masked attention row is NaN in some kernels.
    documents = [*dialogues_of(content=objective.content), *dialogues_of([[]])]
    batch, run = batch_of(documents, "left"), ready(objective)
    clean_N = run(batch).total_N.detach()
    hidden_BTD, again_BTD = batch.hidden_BTD.clone(), run.again_BTD.detach().clone()
    ids_BT = batch.fields["input_ids_BT"].clone()
    for tensor in (hidden_BTD, again_BTD):
        tensor[batch.padding_BT] = value
    ids_BT[batch.padding_BT] = 63
    batch.fields["input_ids_BT"] = ids_BT
    term = run(batch, hidden_BTD=hidden_BTD, again_BTD=again_BTD)
    torch.testing.assert_close(term.total_N, clean_N, rtol=1e-12, atol=1e-12)
    hidden, again, table, *learned = gradients(term.mean_N.sum(), run.leaves)
    for gradient in (hidden, again):
        assert gradient[~batch.padding_BT].isfinite().all()
    assert table.isfinite().all()
    assert not table[63].any()
    assert all(gradient.isfinite().all() for gradient in learned)


@every(CASES)
@pytest.mark.parametrize("layout", ["right", "left", "packed_two_rows"])
def test_padding_that_is_not_finite_gets_no_gradient(
    objective, layout, ready, dialogues_of, batch_of
):
    batch, run = batch_of(dialogues_of(content=objective.content), layout), ready(objective)
    batch.hidden_BTD[batch.padding_BT] = math.nan
    term = run(batch)
    assert term.total_N.isfinite().all()
    hidden, again, *_ = gradients(term.total_N.sum(), run.leaves)
    assert not hidden[batch.padding_BT].any()
    assert not again[batch.padding_BT].any()


@every(APART)
@pytest.mark.parametrize("layout", ["right", "packed_positions"])
def test_a_documents_cost_does_not_know_the_others(
    objective, layout, ready, dialogues_of, batch_of
):
    documents = dialogues_of(content=objective.content)
    others = dialogues_of(seed=77, content=objective.content)
    run = ready(objective)
    before = run(batch_of(documents, layout))
    for n in range(len(documents)):
        mixed = [*others[:n], documents[n], *others[n + 1 :]]
        after = run(batch_of(mixed, layout))
        torch.testing.assert_close(after.total_N[n], before.total_N[n], rtol=1e-11, atol=1e-11)
        assert after.count_N[n] == before.count_N[n]
        changed = [m for m in range(len(documents)) if m != n]
        assert (after.total_N[changed] != before.total_N[changed]).all()


def test_infonce_does_know_the_others(ready, dialogues_of, batch_of):
    documents, run = dialogues_of(), ready(LLMJepa(distance="infonce"))
    alone = run(batch_of(documents[:1], "right"))
    assert alone.total_N.item() == 0  # its own only candidate
    assert run(batch_of(documents, "right")).total_N[0].item() > 1e-6


@every(CASES)
def test_padding_packing_and_order_change_no_documents_cost(
    objective, layout, ready, degenerate, dialogues_of, batch_of
):
    content = objective.content
    documents = dialogues_of(content=content)
    documents += dialogues_of(degenerate[:-1], seed=50, content=content)
    run = ready(objective)
    plain, other = batch_of(documents, "right"), batch_of(documents, layout)
    factor_N = torch.linspace(0.5, 2, len(documents), dtype=torch.float64)
    terms, gradient_of = [], []
    for batch in (plain, other):
        order = [number_of(batch, place) for place in batch.place]
        term = run(batch)
        terms.append((term.total_N[order], term.count_N[order]))
        hidden, _, *rest = gradients((factor_N * terms[-1][0]).sum(), run.leaves)
        states = torch.cat(
            [torch.stack([hidden[place] for place in places]) for places in batch.place]
        )
        gradient_of.append([states, *rest])
    (plain_N, plain_count_N), (other_N, other_count_N) = terms
    torch.testing.assert_close(other_N, plain_N, rtol=1e-6, atol=1e-6)
    assert torch.equal(plain_count_N, other_count_N)
    for ours, theirs in zip(*gradient_of, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@every(CASES)
def test_a_batch_is_the_sum_of_its_documents_alone(objective, ready, dialogues_of, batch_of):
    if objective not in APART:
        pytest.skip("infonce compares the documents of a batch")
    documents, run = dialogues_of(content=objective.content), ready(objective)
    term = run(batch_of(documents, "packed_two_rows"))
    for n, document in enumerate(documents):
        alone = run(batch_of([document], "left"))
        torch.testing.assert_close(term.total_N[n], alone.total_N[0], rtol=1e-6, atol=1e-6)
        assert term.count_N[n] == alone.count_N[0]


# --- Randomness.


@every(CASES)
def test_the_key_alone_decides_what_is_drawn(objective, ready, dialogue_of, batch_of):
    long = [TEMPLATE, *[PROMPT] * 30, TEMPLATE, *[ANSWER] * 20]
    documents = [dialogue_of(long, seed=n, content=objective.content) for n in range(4)]
    batch, run = batch_of(documents, "right"), ready(objective)
    totals = {key: run(batch, key).total_N.detach() for key in (0, 1, 2**32, 2**62 + 5)}
    for key, total_N in totals.items():
        assert torch.equal(run(batch, key).total_N, total_N)
    distinct = {str(total_N.tolist()) for total_N in totals.values()}
    assert len(distinct) == (4 if draws(objective) else 1)
    # The same tokens draw alike, whatever their states; other tokens draw apart.
    if draws(objective):
        same = [replace(document, states_TD=documents[0].states_TD) for document in documents]
        totals = run(batch_of(same, "right")).total_N
        assert len(set(totals.tolist())) > 1


@every(CASES)
def test_the_global_generators_are_left_alone(objective, ready, dialogues_of, batch_of):
    batch, run = batch_of(dialogues_of(content=objective.content), "right"), ready(objective)
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    run(batch).total_N.sum().backward()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state


# --- Degenerate documents.


def expected_count(objective: Objective, document) -> set[int]:
    """From the docstrings; several where it depends on what is drawn."""
    path, prompt, answer = (
        document.path,
        document.places(PROMPT),
        document.places(ANSWER),
    )
    moving = [j for j in path if j > 0]
    match objective:
        case SemanticTube(form="triplet"):
            return {objective.draws if len(path) >= 3 else 0}
        case SemanticTube():
            return {objective.draws if len(moving) >= 2 else 0}
        case TwoView(form="mean") | LLMJepa():
            return {int(bool(prompt and answer))}
        case TwoView():
            return {int(any(j > 0 for j in prompt) and any(j > 0 for j in answer))}
        case MaskedSpan(target="displacement") if path[:1] == [0] and len(path) >= 2:
            return {0, 1}  # nothing moves into the first token
        case MaskedSpan():
            return {int(len(path) >= 2)}
        case Curvature():
            return {max(len(path) - 2, 0)}
        case RDrop():
            return {len(document.predicting)}
        case NextLatent():
            return {sum(j >= d for j in path for d in range(1, objective.horizon + 1))}
    raise AssertionError(objective)


@every(CASES)
@pytest.mark.parametrize("layout", ["right", "left", "packed_cu", "packed_positions"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_documents_without_enough_tokens_count_nothing(
    objective, layout, dtype, ready, degenerate, dialogues_of, batch_of
):
    documents = dialogues_of(degenerate, content=objective.content)
    documents += dialogues_of(content=objective.content)[2:3]
    batch, run = batch_of(documents, layout), ready(objective, dtype)
    term = run(batch, hidden_BTD=batch.hidden_BTD.to(dtype))
    seen = set()
    for document, place in zip(documents, batch.place, strict=True):
        if place:
            n = number_of(batch, place)
            seen.add(n)
            assert int(term.count_N[n]) in expected_count(objective, document)
    for n in set(range(len(term.count_N))) - seen:  # rows of padding
        assert term.count_N[n] == 0
    assert not term.total_N[term.count_N == 0].any()
    assert term.total_N.isfinite().all()
    for gradient in gradients(term.mean_N.sum(), run.leaves):
        assert gradient.isfinite().all()


@every(CASES)
@pytest.mark.parametrize("tokens", [1, 4])
def test_a_batch_of_padding_costs_nothing(objective, tokens, ready, batch_of, dialogues_of):
    batch, run = batch_of(dialogues_of([[], []]), "right"), ready(objective)
    batch.hidden_BTD = torch.full((2, tokens, 5), math.nan, dtype=torch.float64)
    batch.fields = {name: value[:, :1].expand(2, tokens) for name, value in batch.fields.items()}
    term = run(batch)
    assert term.total_N.tolist() == [0, 0]
    assert term.count_N.tolist() == [0, 0]
    if term.total_N.requires_grad:
        for gradient in gradients(term.mean_N.sum(), run.leaves)[2:]:
            assert not gradient.any()


@every(CASES)
def test_one_token_rows_cost_nothing_and_keep_a_graph(objective, ready, batch_of, dialogues_of):
    batch, run = batch_of(dialogues_of([[PROMPT], [ANSWER]]), "right"), ready(objective)
    batch.hidden_BTD = batch.hidden_BTD[:, :1]
    batch.fields = {name: value[:, :1] for name, value in batch.fields.items()}
    term = run(batch)
    assert term.total_N.tolist() == [0, 0]
    assert term.count_N.tolist() == [0, 0]
    assert term.mean_N.requires_grad  # "0 (with a graph) where its count is 0"
    for gradient in gradients(term.mean_N.sum(), run.leaves):
        assert gradient.isfinite().all()


# --- Precision.


@every(CASES)
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_half_precision_states_are_computed_with_in_float32(
    objective, stored, ready, dialogues_of, batch_of
):
    documents = dialogues_of(content=objective.content)
    batch, run = batch_of(documents, "right"), ready(objective, torch.float32)
    half_BTD = batch.hidden_BTD.to(stored)
    again_BTD = (0.9 * batch.hidden_BTD).to(stored)
    term = run(batch, hidden_BTD=half_BTD, again_BTD=again_BTD, stored=stored)
    ours = gradients(term.total_N.sum(), run.leaves)
    # The same numbers in a wider type give the very same cost.
    wide = run(
        batch,
        hidden_BTD=half_BTD.float(),
        again_BTD=again_BTD.detach().float(),
        stored=stored,
        widened=True,
    )
    assert term.total_N.dtype == torch.float32
    assert torch.equal(term.total_N, wide.total_N)
    assert torch.equal(term.count_N, wide.count_N)
    theirs = gradients(wide.total_N.sum(), run.leaves)
    for our, their in zip(ours, theirs, strict=True):
        assert our.isfinite().all()
        size = their.abs().max().item()
        torch.testing.assert_close(
            our.float(), their, rtol=0, atol=20 * torch.finfo(stored).eps * max(size, 1e-6)
        )


@every(CASES)
def test_float64_stays_float64(objective, ready, dialogues_of, batch_of):
    term = ready(objective)(batch_of(dialogues_of(content=objective.content), "right"))
    assert term.total_N.dtype == torch.float64


# --- Values of configuration.

WEIGHTS = [0.3, 1, Ramp(0.5, 10), Ramp(0.5, 10, 0.1, "cosine"), Dropped(0.2, 0.5), Adaptive(0.1)]


@every([*CASES, *(TwoView(layer=layer) for layer in (3, -2, (2, 4, -1)))])
@pytest.mark.parametrize("weight", [None, *WEIGHTS], ids=repr)
def test_a_dict_through_json_and_the_repr_give_an_equal_objective_back(objective, weight):
    if weight is not None:
        if isinstance(weight, Adaptive) and len(objective.layers) > 1:
            with pytest.raises(ValueError, match=r"layer is \(2, 4, -1\)"):
                replace(objective, weight=weight)
            return
        objective = replace(objective, weight=weight)
    plain = objective.to_dict()
    read = json.loads(json.dumps(plain))
    assert read == plain  # no tuples, no classes
    again = objective_from_dict(read)
    assert plain["objective"] == objective.name
    assert again == objective
    assert hash(again) == hash(objective)
    assert repr(again) == repr(objective)
    assert type(again.weight) is type(objective.weight)
    assert set(plain) == {"objective", *(field.name for field in fields(objective))}
    made = eval(repr(objective))
    assert made == objective
    assert replace(objective, weight=0.123) != objective


def test_objectives_of_one_value_are_one_key_and_others_are_not():
    assert len({*CASES, *map(eval, map(repr, CASES))}) == len(CASES)
    assert len({case.to_dict()["objective"] for case in CASES}) == len(OBJECTIVES)


@pytest.mark.parametrize("kind", OBJECTIVES.values())
def test_the_repr_leaves_defaults_out_but_for_the_weight(kind):
    assert repr(kind()) == f"{kind.__name__}(weight={kind().weight})"


WEIGHT_FAULTS = [(value, None) for value in (-0.1, math.nan, math.inf, True, None, "0.1")]
LAYER_FAULTS = [(0, None), ((), None), ((1, 1), None)]
PREDICTOR_FAULTS = [("cubic", None)]
RATE_FAULTS = [(0.0, None), (-1.0, None), (math.nan, None), (math.inf, None)]
CONTENT_FAULTS = [("prompt", None), (None, None)]
#: For every argument values that it may not have, with what else must be given.
FAULTS: dict[type[Objective], dict[str, list]] = {
    SemanticTube: {
        "weight": WEIGHT_FAULTS,
        "form": [("line", None)],
        "draws": [(0, None), (-1, None)],
        "law": [("zero", None), ("sequential", None), ("triplet", {"form": "span"})],
        "max_length": [(1, None), (0, {"form": "span"}), (-2, None)],
        "layer": [
            *LAYER_FAULTS,
            ((1, 2), {"weight": Adaptive()}),
            ((1, 2), {"predictor": "linear"}),
        ],
        "content": CONTENT_FAULTS,
        "length_weight": [("cubic", None)],
        "predictor": PREDICTOR_FAULTS,
        "predictor_rate": RATE_FAULTS,
    },
    TwoView: {
        "weight": WEIGHT_FAULTS,
        "form": [("triplet", None)],
        "layer": [*LAYER_FAULTS, ((1, 2), {"predictor": "linear"})],
        "predictor": PREDICTOR_FAULTS,
        "predictor_rate": RATE_FAULTS,
    },
    MaskedSpan: {
        "weight": WEIGHT_FAULTS,
        "target": [("recover", None)],
        "law": [("zero", None)],
        "max_length": [(0, None), (-3, None)],
        "content": CONTENT_FAULTS,
        "predictor": PREDICTOR_FAULTS,
        "predictor_rate": RATE_FAULTS,
    },
    Curvature: {"weight": WEIGHT_FAULTS, "layer": LAYER_FAULTS, "content": CONTENT_FAULTS},
    LLMJepa: {
        "weight": WEIGHT_FAULTS,
        "predictor_tokens": [(-1, None), (5, None)],
        "distance": [("l1", None)],
        "temperature": [(0.0, None), (-0.07, None), (math.nan, None), (math.inf, None)],
        "reverse": [],  # any truth value
        "predictor": PREDICTOR_FAULTS,
        "predictor_rate": RATE_FAULTS,
    },
    RDrop: {"weight": WEIGHT_FAULTS},
    NextLatent: {
        "weight": WEIGHT_FAULTS,
        "horizon": [(0, None), (-1, None)],
        "expansion": [(0.0, None), (-1.0, None), (math.nan, None), (math.inf, None)],
        "content": CONTENT_FAULTS,
        "predictor_rate": RATE_FAULTS,
    },
}


def test_every_argument_of_every_objective_is_in_the_table_of_faults():
    for kind in OBJECTIVES.values():
        assert list(FAULTS[kind]) == [field.name for field in fields(kind)]


@pytest.mark.parametrize(
    ("kind", "name", "value", "rest"),
    [
        (kind, name, value, rest or {})
        for kind, table in FAULTS.items()
        for name, faults in table.items()
        for value, rest in faults
    ],
)
def test_a_wrong_argument_is_named_with_its_value(kind, name, value, rest):
    with pytest.raises(ValueError, match=r"\S") as raised:
        kind(**{name: value}, **rest)
    message = str(raised.value)
    assert message.startswith(f"{name} is {value!r}")
    assert "\n" not in message
    assert len(message) > len(f"{name} is {value!r}") + 8  # and what it may be
    # A configuration gets the same sentence.
    if not rest:
        with pytest.raises(ValueError, match=r"\S") as from_dict:
            objective_from_dict({"objective": kind.name, name: value})
        assert str(from_dict.value).endswith(message)


@pytest.mark.parametrize("kind", [SemanticTube, TwoView, Curvature])
def test_the_embeddings_are_refused_among_several_layers_too(kind):
    with pytest.raises(ValueError, match="layer is 0, the embeddings"):
        kind(layer=(2, 0))


@pytest.mark.parametrize("kind", OBJECTIVES.values())
def test_an_unknown_option_is_refused_with_a_hint(kind):
    name = fields(kind)[-1].name
    with pytest.raises(ValueError, match=rf"{kind.name!r} has no option '{name}s'.*'{name}'"):
        objective_from_dict({"objective": kind.name, f"{name}s": 1})
    with pytest.raises(ValueError, match=r"no option 'qqqq': it has weight"):
        objective_from_dict({"objective": kind.name, "qqqq": 1})


# --- The tube's options.


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """Ranks that the samplers returned in the last call."""
    record = []
    for name in ("draw_triplets", "draw_spans"):
        real = getattr(tube, name)

        def spy(*args, real=real, **kwargs):
            ranks, valid_N = real(*args, **kwargs)
            record[:] = ranks.tolist()
            return ranks, valid_N

        monkeypatch.setattr(tube, name, spy)
    return record


def length_factor(kind: str, a: int, b: int) -> float:
    if kind == "none":
        return 1.0
    return 2 * a * b / (a * a + b * b) if kind == "quadratic" else 1 - abs(a - b) / (a + b)


@pytest.mark.parametrize("form", ["triplet", "span"])
@pytest.mark.parametrize(
    "options",
    [
        {"length_weight": "quadratic"},
        {"length_weight": "linear"},
        {"predictor": "linear", "predictor_rate": 3.0},
        {"predictor": "linear", "length_weight": "linear", "max_length": 3},
    ],
    ids=str,
)
def test_length_weights_and_the_predictor_equal_a_plain_loop(
    form, options, layout, drawn, degenerate, dialogues_of, batch_of, parts_of, check_oracle
):
    objective = SemanticTube(form=form, draws=3, **options)
    documents = dialogues_of() + dialogues_of(degenerate, seed=50)
    batch, parts = batch_of(documents, layout), parts_of(objective)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    term = objective(hidden_BTD, batch.trajectories, 1, parts=parts)

    def costs(document, states_TD: Tensor, n: int) -> list[Tensor | None]:
        path, found = document.path, []
        if form == "span":
            path = [j for j in path if j > 0]
        for ranks in drawn[n] if len(path) >= (3 if form == "triplet" else 2) else []:
            if form == "triplet":
                s, r, t = ranks
                earlier_D = states_TD[path[r]] - states_TD[path[s]]
                later_D = states_TD[path[t]] - states_TD[path[r]]
                a, b = r - s, t - r
            else:
                start, stop = ranks
                step = {j: states_TD[j] - states_TD[j - 1] for j in path}
                later_D = sum(step[j] for j in path[start:stop])
                earlier_D = sum(step[j] for j in path[:start] + path[stop:])
                b = stop - start
                a = len(path) - b
            if parts is not None:
                earlier_D = earlier_D + faster(parts.change, objective.predictor_rate) @ earlier_D
            cosine = earlier_D @ later_D / (earlier_D.norm() * later_D.norm())
            found.append((1 - cosine) * length_factor(objective.length_weight, a, b))
        return found

    learned = [] if parts is None else list(parts.parameters())
    # The factor of the lengths is computed in float32.
    rtol = 1e-10 if objective.length_weight == "none" else 3e-7
    check_oracle(term, documents, batch, hidden_BTD, costs, *learned, rtol=rtol)


@pytest.mark.parametrize("length_weight", ["quadratic", "linear"])
def test_equal_lengths_have_the_factor_one_and_the_count_stays(length_weight, drawn):
    generator = torch.Generator().manual_seed(0)
    states_NTD = torch.randn(40, 3, 4, generator=generator, dtype=torch.float64)
    ones_BT = torch.ones(40, 3, dtype=torch.bool)
    trajectories = Trajectories.build(attended_BT=ones_BT, content_BT=ones_BT)
    plain, weighted = (
        SemanticTube(length_weight=kind)(states_NTD, trajectories, 0)
        for kind in ("none", length_weight)
    )
    torch.testing.assert_close(weighted.total_N, plain.total_N, rtol=1e-6, atol=0)
    assert torch.equal(weighted.count_N, plain.count_N)


# --- Properties.

INVARIANT = [
    SemanticTube(draws=3),
    SemanticTube(form="span", draws=3),
    TwoView(),
    TwoView(form="branch"),
    Curvature(),
]


@every(INVARIANT)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    prompt=st.integers(2, 9),
    answer=st.integers(1, 9),
    width=st.integers(2, 8),
    exponent=st.floats(-3, 3),
    shift=st.floats(-100, 100),
)
def test_turning_moving_and_scaling_a_trajectory_leave_its_cost(
    objective, seed, prompt, answer, width, exponent, shift
):
    generator = torch.Generator().manual_seed(seed)
    roles_T = torch.tensor([TEMPLATE, SYSTEM, *[PROMPT] * prompt, TEMPLATE, *[ANSWER] * answer])
    roles_BT = roles_T.expand(3, -1)
    trajectories = Trajectories.build(
        attended_BT=roles_BT > 0,
        content_BT=(roles_BT == PROMPT) | (roles_BT == ANSWER),
        prompt_BT=roles_BT == PROMPT,
        answer_BT=roles_BT == ANSWER,
    )
    shape = (3, len(roles_T), width)
    states_BTD = torch.randn(shape, generator=generator, dtype=torch.float64)
    turn_DD = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    cost = objective(states_BTD, trajectories, seed)
    moved = objective(10**exponent * (states_BTD @ turn_DD) + shift, trajectories, seed)
    # An offset of 100 beside steps of 1e-3 leaves 1e-11 of the direction; an angle near a kink
    # loses half of the digits.
    atol = 1e-4 if isinstance(objective, Curvature) else 1e-7
    torch.testing.assert_close(moved.total_N, cost.total_N, rtol=0, atol=atol)
    assert torch.equal(moved.count_N, cost.count_N)
    # And a change of shape does not leave it.
    bent_BTD = states_BTD * torch.linspace(0.2, 3, width, dtype=torch.float64)
    assert not torch.allclose(
        objective(bent_BTD, trajectories, seed).total_N, cost.total_N, rtol=1e-9
    )


@pytest.mark.parametrize("distance", ["cosine", "infonce"])
def test_the_cosine_distances_do_not_see_the_size_of_the_encodings(
    distance, dialogues_of, batch_of
):
    class Scaled:
        def __init__(self, size: float) -> None:
            self.size = size

        def __call__(self, index_RW, position_RW, vectors_KD=None) -> Tensor:
            place_RW1 = (index_RW * 7 + position_RW)[..., None].double()
            return self.size * torch.sin(place_RW1 * torch.tensor([1.0, 2.3, 0.7]).double())

    batch = batch_of(dialogues_of(), "right")
    objective = LLMJepa(distance=distance, predictor_tokens=0)
    small, large = (
        objective(batch.hidden_BTD, batch.trajectories, 0, encoder=Scaled(size)).total_N
        for size in (1e-2, 1e3)
    )
    torch.testing.assert_close(small, large, rtol=1e-10, atol=1e-12)
    assert (small.abs() > 1e-6).any()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SemanticTube(draws=1.5), "draws is 1.5: a whole number of at least 1 is needed"),
        (lambda: SemanticTube(draws=True), "draws is True: a whole number"),
        (lambda: SemanticTube(draws="3"), "draws is '3': a whole number"),
        (lambda: SemanticTube(max_length=2.5), "max_length is 2.5: a whole number of at least 2"),
        (lambda: SemanticTube(layer=1.5), "layer is 1.5: give whole numbers"),
        (lambda: SemanticTube(layer="last"), "layer is 'last': give whole numbers"),
        (lambda: SemanticTube(content=["text"]), "content is ['text']: use one of"),
        (lambda: TwoView(predictor_rate="fast"), "predictor_rate is 'fast': it must be a number"),
        (lambda: LLMJepa(predictor_tokens=5), "predictor_tokens is 5: use one of (0, 1, 2, 3, 4)"),
        (lambda: LLMJepa(reverse="no"), "reverse is 'no': use one of"),
        (lambda: LLMJepa(temperature=0), "temperature is 0: it must be a number above 0"),
        (lambda: NextLatent(horizon=1.5), "horizon is 1.5: a whole number"),
        (lambda: Ramp("1", steps=3), "weight is '1': a finite number of at least 0"),
        (lambda: Ramp(1.0, steps=3, shape=["linear"]), "shape is ['linear']: use one of"),
        (lambda: Dropped(1.0, rate="half"), "rate is 'half': it must be a number of at least 0"),
        (lambda: Adaptive("0.05"), "fraction is '0.05': it must be a number above 0"),
        (lambda: Adaptive(smoothing=None), "smoothing is None: it must be a number of at least 0"),
        (lambda: Adaptive(maximum=True), "maximum is True: it must be a number above 0"),
        (lambda: objective_from_dict({"objective": ["tube"]}), "objective is ['tube']: use one of"),
    ],
)  # fmt: skip
def test_a_wrong_kind_of_value_is_a_sentence(make, sentence):
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        make()
