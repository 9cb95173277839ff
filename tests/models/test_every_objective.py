"""Every objective in a real model: split steps, resumption, parts, gradients, extra passes.

Shape letters: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

import copy
import json
import re
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import semtube
from semtube import (
    Adaptive,
    Curvature,
    Dropped,
    LLMJepa,
    MaskedSpan,
    NextLatent,
    Objective,
    Ramp,
    RDrop,
    SemanticTube,
    TwoView,
    UserError,
    attach,
    embedding_noise,
)
from semtube.models.encoder import ModelEncoder
from semtube.objectives.catalogue import OBJECTIVES

transformers = pytest.importorskip("transformers")

WEIGHT = 0.5
CASES: list[Objective] = [
    SemanticTube(WEIGHT, draws=2),
    SemanticTube(WEIGHT, form="span", length_weight="quadratic"),
    SemanticTube(WEIGHT, predictor="linear"),
    SemanticTube(WEIGHT, layer=(1, -1)),
    TwoView(WEIGHT),
    TwoView(WEIGHT, form="branch", predictor="linear"),
    MaskedSpan(WEIGHT),
    MaskedSpan(WEIGHT, target="span"),
    Curvature(WEIGHT),
    LLMJepa(WEIGHT, predictor_tokens=2, predictor="linear"),
    LLMJepa(WEIGHT, distance="mse", reverse=True),
    NextLatent(WEIGHT),
]
every = pytest.mark.parametrize("objective", CASES, ids=repr)


def test_every_class_is_here() -> None:
    # R-Drop's masks depend on where a row stands, so it has tests of its own below.
    assert {type(case) for case in CASES} | {RDrop} == set(OBJECTIVES.values())


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(*, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=2, initializer_range=0.2, attention_dropout=dropout,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).train()


LENGTHS = [9, 6, 12, 1, 7, 15, 5, 10]


def rows(indices: range = range(8), *, num_items: bool = True) -> dict[str, Tensor]:
    """Rows of the eight texts; half of each is prompt. One has a single token."""
    generator = torch.Generator().manual_seed(1)
    ids_BT = torch.randint(3, 61, (8, max(LENGTHS)), generator=generator)
    place_T = torch.arange(max(LENGTHS))
    mask_BT = (place_T < torch.tensor(LENGTHS)[:, None]).long()
    labels_BT = ids_BT.masked_fill(
        (mask_BT == 0) | (place_T < torch.tensor(LENGTHS)[:, None] // 2), -100
    )
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}
    found = {name: value[list(indices)] for name, value in batch.items()}
    return {
        **found,
        **({"num_items_in_batch": (labels_BT[:, 1:] != -100).sum()} if num_items else {}),
    }


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def alike(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        size = max(1.0, a[name].abs().max().item())
        assert (a[name] - b[name]).abs().max().item() <= tolerance * size, name


@every
def test_a_step_may_be_split_in_any_way(objective):
    found = []
    for size in (8, 4, 1):
        model = tiny()
        with attach(model, objective, seed=3):
            for first in range(0, 8, size):
                model(**rows(range(first, first + size))).loss.backward()
            found.append(gradients(model))
    alike(found[0], found[1], 2e-6)
    alike(found[0], found[2], 2e-6)
    with_term = found[0]["model.layers.0.mlp.up_proj.weight"]
    model = tiny()
    model(**rows()).loss.backward()
    plain = gradients(model)["model.layers.0.mlp.up_proj.weight"]
    assert (with_term - plain).norm() > 1e-3 * plain.norm()


@every
def test_detached_or_evaluating_the_model_is_what_it_was(objective):
    model = tiny()
    names, loss = set(model.state_dict()), model(**rows()).loss.item()
    state = torch.get_rng_state()
    with attach(model, objective):
        model.eval()
        assert model(**rows()).loss.item() == loss
        model.train()
        output = model(**rows())
        assert output.loss.item() == loss  # the visible loss stays next-token loss
        output.loss.backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert set(model.state_dict()) == names
    assert model(**rows()).loss.item() == loss


def train(model: nn.Module, attachment, optimizer, steps: int) -> None:
    for _ in range(steps):
        model(**rows()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    "objective",
    [*CASES, SemanticTube(Adaptive(0.3)), LLMJepa(Dropped(0.5, 0.5)), RDrop(0.5),
     TwoView(Ramp(0.5, 6, shape="cosine"), predictor="linear")],
    ids=repr,
)  # fmt: skip
def test_a_resumed_loop_goes_on_exactly(objective):
    rate = 0.1 if isinstance(objective, RDrop) else 0.0

    def begin():
        model = tiny(dropout=rate)
        attachment = attach(model, objective, seed=5)
        torch.manual_seed(9)
        return model, attachment, torch.optim.AdamW(model.parameters(), lr=1e-2)

    whole, attachment, optimizer = begin()
    train(whole, attachment, optimizer, 3)
    saved = copy.deepcopy(
        (whole.state_dict(), attachment.state_dict(), optimizer.state_dict(), torch.get_rng_state())
    )
    train(whole, attachment, optimizer, 3)
    expected = {n: p.detach().clone() for n, p in whole.named_parameters()}
    resumed, again, optimizer = begin()
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    optimizer.load_state_dict(saved[2])
    torch.set_rng_state(saved[3])
    train(resumed, again, optimizer, 3)
    for name, value in resumed.named_parameters():
        assert torch.equal(value, expected[name]), name
    json.dumps(saved[1]["objective"])
    told = r"the checkpoint was trained with objective SemanticTube\(weight=0.9\), but "
    with pytest.raises(UserError, match=told + re.escape(repr(objective))):
        again.load_state_dict({**saved[1], "objective": SemanticTube(0.9).to_dict()})
    with pytest.raises(UserError, match="the state has no objective, parts, seed, step"):
        again.load_state_dict(saved[0])
    with pytest.raises(UserError, match="the checkpoint was trained with seed 6"):
        again.load_state_dict({**saved[1], "seed": 6})


# --- Learnable parts.


def test_parts_learn_faster_and_are_gone_afterwards():
    model = tiny()
    with attach(model, SemanticTube(WEIGHT, predictor="linear", predictor_rate=50.0)) as handle:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
        train(model, handle, optimizer, 1)
        [moved] = [p for n, p in model.named_parameters() if n.startswith("semtube_")]
        # Adam's first step is the learning rate in every weight; the map's is rate times that.
        assert (50.0 * moved).abs().max().item() == pytest.approx(50e-3, rel=1e-3)
    assert not [n for n in model.state_dict() if "semtube" in n]


def test_an_optimizer_made_before_attaching_is_refused():
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    with (
        pytest.raises(UserError, match=r"no optimizer holds the learnable parts.*after attach\(\)"),
        attach(model, SemanticTube(WEIGHT, predictor="linear")) as handle,
    ):
        train(model, handle, optimizer, 2)


def test_two_objectives_add_and_keep_their_parts_apart():
    found = []
    pair = [SemanticTube(WEIGHT, predictor="linear"), TwoView(WEIGHT, predictor="linear")]
    for objectives in ([], pair[:1], pair[1:], pair):
        model = tiny()
        handles = [attach(model, objective) for objective in objectives]
        model(**rows()).loss.backward()
        found.append({n: g for n, g in gradients(model).items() if "semtube" not in n})
        for handle in handles:
            handle.detach()
    none, first, second, both = found
    alike({n: first[n] + second[n] - none[n] for n in none}, both, 2e-6)
    model = tiny()
    attach(model, pair[0])
    with pytest.raises(UserError, match="is attached to this model already"):
        attach(model, pair[0])


# --- Weights.


def test_an_adaptive_weight_keeps_the_gradients_at_their_ratio():
    model = tiny()
    with attach(model, SemanticTube(Adaptive(0.3, smoothing=0.5), draws=4)) as handle:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        weights = []
        for _ in range(12):
            weights.append(float(handle.weight))
            for first in (0, 4):
                model(**rows(range(first, first + 4))).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        logs = handle.pop_logs()
    assert weights[0] == pytest.approx(Adaptive.FIRST)
    ratio = logs["gradient_next_token"] / logs["gradient_term"]
    assert weights[-1] == pytest.approx(0.3 * ratio, rel=0.3)  # new triplets at every step
    assert -1 <= logs["gradient_cosine"] <= 1


def test_the_measured_gradients_are_those_at_the_states():
    model = tiny()
    states = {}

    def keep(module, args, output):
        output.last_hidden_state.retain_grad()
        states["last"] = output.last_hidden_state

    hook = model.get_decoder().register_forward_hook(keep)
    model(**rows()).loss.backward()
    next_token = states["last"].grad.clone()
    hook.remove()
    objective = SemanticTube(0.7, draws=3)
    sums = []
    with attach(model, objective, measure_gradients=True) as handle:
        # Behind the hook's node stands the decoder's own state, which gets both gradients.
        norm = model.get_decoder().norm.register_forward_hook(
            lambda module, args, output: (output.retain_grad(), sums.append(output))[0]
        )
        model(**rows()).loss.backward()
        torch.optim.SGD(model.parameters(), lr=0.0).step()
        logs = handle.pop_logs()
    norm.remove()
    term = (sums[0].grad - next_token) / 0.7
    assert logs["gradient_next_token"] == pytest.approx(next_token.norm().item(), rel=1e-4)
    assert logs["gradient_term"] == pytest.approx(term.norm().item(), rel=1e-4)
    cosine = torch.cosine_similarity(next_token.flatten(), term.flatten(), dim=0).item()
    assert logs["gradient_cosine"] == pytest.approx(cosine, abs=1e-4)
    assert logs["term_weight"] == pytest.approx(0.7)


def test_an_adaptive_weight_is_read_before_detaching():
    model = tiny()
    with attach(model, SemanticTube(Adaptive(0.1))) as handle:
        model(**rows()).loss.backward()
    with pytest.raises(UserError, match="the objective is detached"):
        _ = handle.weight


@pytest.mark.parametrize("layout", ["rows", "left", "packed"])
@pytest.mark.parametrize("objective", [TwoView(form="mean"), LLMJepa()], ids=repr)
def test_a_text_that_is_supervised_whole_has_no_prompt(objective, layout):
    # Hosts supervise no document's first token: it is no prompt.
    ids_BT = torch.arange(3, 27).view(2, 12)
    place_BT = torch.arange(12).expand(2, 12)
    for length, documents in ((1, 0), (2, 2)):
        labels_BT = ids_BT.masked_fill(place_BT < length, -100)
        batch = {"input_ids": ids_BT, "labels": labels_BT}
        if layout == "left":
            batch = {name: F.pad(value, (3, 0), value=-100) for name, value in batch.items()}
            mask_BT = (batch["input_ids"] != -100).long()
            ids = batch["input_ids"].clamp_min(0)
            batch = {"input_ids": ids, "labels": batch["labels"], "attention_mask": mask_BT}
        elif layout == "packed":
            batch = {name: value.view(1, -1) for name, value in batch.items()}
            batch |= {"position_ids": place_BT.reshape(1, -1), "use_cache": False}
        model = tiny()
        handle = attach(model, objective)
        model(**batch).loss.backward()
        expecting = nullcontext() if documents else pytest.warns(UserWarning, match="no document")
        with expecting:
            assert handle.pop_logs()["term_documents"] == documents


def test_a_dropped_step_is_a_next_token_step_bit_for_bit():
    objective = LLMJepa(Dropped(1.0, 0.5), predictor_tokens=0)
    plain = tiny()
    plain(**rows()).loss.backward()
    expected, kinds = gradients(plain), []
    model = tiny()
    with attach(model, objective) as handle:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(10):
            dropped = handle.weight == 0
            model(**rows()).loss.backward()
            same = all(torch.equal(p.grad, expected[n]) for n, p in model.named_parameters())
            assert same == dropped
            kinds.append(dropped)
            optimizer.step()
            optimizer.zero_grad()
    assert len(set(kinds)) == 2


def test_a_ramp_follows_the_steps():
    model = tiny()
    with attach(model, TwoView(Ramp(1.0, 4))) as handle:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        seen = []
        for _ in range(6):
            seen.append(handle.weight)
            train(model, handle, optimizer, 1)
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


# --- Extra passes.


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=61, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1,
        eos_token_id=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).train()


@pytest.mark.parametrize("make", [tiny, gpt2])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_texts_in_one_row_have_the_states_they_have_alone(make, implementation):
    model = make()
    model.set_attn_implementation(implementation)
    ids_BT = rows()["input_ids"]
    decoder = model.get_decoder()
    encoder = ModelEncoder(model, decoder, ids_BT, ((), {}), key=0)
    index_RW = torch.tensor([[0, 1, 2, 3, 4, 5], [20, 21, 22, 40, -1, -1]])
    position_RW = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 0, 0]])
    found = encoder(index_RW, position_RW)
    flat = ids_BT.flatten()
    for row, stretch in ((0, [0, 1, 2]), (0, [3, 4, 5]), (1, [20, 21]), (1, [22, 40])):
        first = index_RW[row].tolist().index(stretch[0])
        alone = decoder(input_ids=flat[stretch][None], use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(
            found[row, first : first + len(stretch)], alone, atol=2e-6, rtol=0
        )


def test_attention_that_does_not_keep_texts_apart_is_refused():
    model = tiny()

    class Leaky(nn.Module):
        def __init__(self, decoder):
            super().__init__()
            self.decoder = decoder

        def forward(self, inputs_embeds=None, position_ids=None, **rest):
            return self.decoder(inputs_embeds=inputs_embeds, use_cache=False)

    encoder = ModelEncoder(model, Leaky(model.get_decoder()), rows()["input_ids"], ((), {}), key=0)
    with pytest.raises(UserError, match="does not keep texts apart that share a row"):
        encoder(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]))


def test_r_drop_needs_dropout_and_leaves_the_hosts_own_alone():
    model = tiny()
    with (
        pytest.raises(UserError, match=r"drops nothing.*attention_dropout"),
        attach(model, RDrop()),
    ):
        model(**rows())
    losses = []
    for objective in (None, RDrop()):
        model = tiny(dropout=0.3)
        if objective is not None:
            attach(model, objective)
        torch.manual_seed(4)
        losses.append([model(**rows()).loss.item() for _ in range(3)])
    assert losses[0] == losses[1]


def test_objectives_that_need_token_ids_say_so():
    model = tiny()
    batch = rows()
    embedded = model.get_input_embeddings()(batch.pop("input_ids")).detach()
    with (
        pytest.raises(UserError, match="embeddings, not token ids"),
        attach(model, LLMJepa()),
    ):
        model(inputs_embeds=embedded, **batch)


def test_embedding_noise_is_neftunes_and_only_in_training():
    model = tiny().eval()
    plain = model(**rows()).loss.item()
    embedding, seen = model.get_input_embeddings(), []
    with embedding_noise(model, alpha=5.0):
        assert model(**rows()).loss.item() == plain
        model.train()
        hook = embedding.register_forward_hook(
            lambda m, args, output: seen.append((args[0], output))
        )
        model(**rows())
    hook.remove()
    ids_BT, noisy_BTD = seen[0]
    noise_BTD = noisy_BTD - embedding.weight[ids_BT]
    bound = 5.0 / (noise_BTD.shape[1] * noise_BTD.shape[2]) ** 0.5
    assert 0.98 * bound < noise_BTD.abs().max().item() <= bound * (1 + 1e-5)
    assert model.eval()(**rows()).loss.item() == plain
    with (
        pytest.raises(UserError, match="alpha is 0: it must be above 0"),
        embedding_noise(model, 0),
    ):
        pass


def test_a_measured_objective_stands_alone():
    model = tiny()
    with attach(model, SemanticTube(Adaptive(0.1))) as handle:
        with pytest.raises(UserError, match="cannot stand beside another objective"):
            attach(model, TwoView(WEIGHT, predictor="linear"))
        assert not [name for name in model.state_dict() if "two_view" in name]
        train(model, handle, torch.optim.SGD(model.parameters(), lr=0.0), 1)
    attach(model, TwoView(WEIGHT))
    with pytest.raises(UserError, match="cannot stand beside another objective"):
        attach(model, SemanticTube(WEIGHT), measure_gradients=True)
    assert not [name for name in model.state_dict() if "semtube" in name]


def test_the_cosine_is_logged_only_where_both_gradients_are():
    model = tiny()
    with attach(model, LLMJepa(WEIGHT), measure_gradients=True) as handle:
        train(model, handle, torch.optim.SGD(model.parameters(), lr=0.0), 1)
        logs = handle.pop_logs()
    assert logs["gradient_term"] > 0
    assert "gradient_cosine" not in logs


@pytest.mark.parametrize("objective", [MaskedSpan(WEIGHT), LLMJepa(WEIGHT), NextLatent(WEIGHT)])
def test_noise_on_embeddings_draws_as_without_the_objective(objective):
    drawn = []
    for attached in (False, True):
        model = tiny()
        with embedding_noise(model):
            if attached:
                attach(model, objective)
            torch.manual_seed(2)
            model(**rows())
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_extra_passes_draw_anew_for_another_seed_step_or_text():
    losses = []
    for seed, part in ((0, range(4)), (0, range(4)), (1, range(4)), (0, range(4, 8))):
        model = tiny(dropout=0.5)
        with attach(model, RDrop(WEIGHT), seed=seed) as handle:
            torch.manual_seed(3)
            model(**rows(part)).loss.backward()
            losses.append(handle.pop_logs()["term_loss"])
            torch.optim.SGD(model.parameters(), lr=0.0).step()
            torch.manual_seed(3)
            model(**rows(part)).loss.backward()
            assert handle.pop_logs()["term_loss"] != losses[-1]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_run_whose_few_steps_were_all_dropped_ends_in_peace():
    model = tiny()
    with attach(model, SemanticTube(Dropped(0.5, 0.999))) as handle:
        train(model, handle, torch.optim.SGD(model.parameters(), lr=0.0), 2)
        assert handle.pop_logs() == {}


def test_the_state_is_taken_before_detaching():
    model = tiny()
    with attach(model, SemanticTube(WEIGHT, predictor="linear")) as handle:
        model(**rows()).loss.backward()
    with pytest.raises(UserError, match="the objective is detached: take its state before"):
        handle.state_dict()


def test_a_copy_of_an_attached_model_can_be_attached_to():
    model = tiny()
    objective = TwoView(WEIGHT, predictor="linear")
    handle = attach(model, objective)
    copied = copy.deepcopy(model)
    attach(copied, objective)
    assert set(copied.state_dict()) == set(model.state_dict())
    model(**rows()).loss.backward()
    handle.detach()


def test_states_narrower_than_the_configured_width_have_parts_that_fit():
    torch.manual_seed(0)
    config = transformers.OPTConfig(
        vocab_size=61, hidden_size=32, word_embed_proj_dim=16, ffn_dim=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, dropout=0.1,
    )  # fmt: skip
    for objective in (TwoView(WEIGHT, predictor="linear"), RDrop(WEIGHT)):
        model = transformers.OPTForCausalLM(config).train()
        with attach(model, objective) as handle:
            model(**rows(num_items=False)).loss.backward()
            assert handle.pop_logs()["term_loss"] > 0


# --- Batches and models that are not as usual.


#: Every objective in its plain form, and the weight of R-Drop, which needs dropout.
PLAIN = [*CASES, RDrop(WEIGHT)]


@pytest.mark.parametrize("objective", PLAIN, ids=repr)
def test_a_batch_without_a_usable_row_adds_nothing_and_says_so(objective):
    model = tiny(dropout=0.1 if isinstance(objective, RDrop) else 0.0)
    ids_BT = torch.arange(5, 17).view(3, 4)
    mask_BT = (torch.arange(4) == 0).long().expand(3, 4)  # a single token each
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "num_items_in_batch": 9}
    with attach(model, objective) as handle:
        model(**batch, labels=torch.full((3, 4), -100)).loss.backward()
        with pytest.warns(UserWarning, match="found no document that it can use"):
            logs = handle.pop_logs()
        assert (logs["term_documents"], logs["term_skipped"]) == (0, 3)
        found = gradients(model)
    assert all(not gradient.any() for gradient in found.values())


@pytest.mark.parametrize("objective", PLAIN, ids=repr)
def test_a_bfloat16_model_learns_with_parts_in_float32(objective):
    found = []
    for attached in (False, True):
        model = tiny(dropout=0.1 if isinstance(objective, RDrop) else 0.0).to(torch.bfloat16)
        if attached:
            attach(model, objective)
        torch.manual_seed(2)
        model(**rows()).loss.backward()
        found.append(gradients(model))
    plain, with_term = found
    for name, gradient in with_term.items():
        assert gradient.isfinite().all(), name
        assert gradient.dtype == (torch.float32 if "semtube_" in name else torch.bfloat16)
    changed = [name for name in plain if not torch.equal(plain[name], with_term[name])]
    assert any("layers.0" in name for name in changed)


@pytest.mark.parametrize("kind", [SemanticTube, TwoView, Curvature])
def test_several_layers_are_the_mean_of_each_alone(kind):
    found, losses = [], []
    for layer in (None, 1, -1, (1, -1)):
        model = tiny()
        handle = attach(model, kind(WEIGHT, layer=layer)) if layer else None
        model(**rows()).loss.backward()
        found.append(gradients(model))
        losses.append(handle.pop_logs() if handle else {})
    none, first, second, both = found
    alike({n: (first[n] + second[n]) / 2 for n in none}, both, 2e-6)
    assert max((both[n] - none[n]).abs().max().item() for n in none) > 1e-3
    mean = (losses[1]["term_loss"] + losses[2]["term_loss"]) / 2
    assert losses[3]["term_loss"] == pytest.approx(mean, rel=1e-5)
    assert losses[3]["term_documents"] == losses[1]["term_documents"]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ((1, 9), r"layer is 9, but the model has 3 layers: use 1 to 3, or -1 to -3"),
        ((1, -4), r"layer is -4, but the model has 3 layers"),
        ((3, -1), r"layer is \(3, -1\): some of them are the same layer"),
    ],
)
@pytest.mark.parametrize("kind", [SemanticTube, TwoView, Curvature])
def test_layers_that_are_not_there_or_twice_the_same_are_refused(kind, layer, message):
    with pytest.raises(UserError, match=message):
        attach(tiny(), kind(WEIGHT, layer=layer))


def test_predictor_tokens_leave_the_models_own_tokens_as_they_are():
    # They are vectors of the objective, so a tokenizer that has such tokens does not clash.
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with attach(model, LLMJepa(WEIGHT, predictor_tokens=4)):
        assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == 61
        added = {name for name in model.state_dict() if name not in before}
        assert {model.state_dict()[name].shape for name in added} == {(4, 16)}
        model(**rows()).loss.backward()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_public_names_are_all_there():
    for name in semtube.__all__:
        assert getattr(semtube, name) is not None
