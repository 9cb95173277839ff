"""Attach: the gradient that arrives, in every host and layout, and nothing else.

The oracle: next-token loss summed by hand, plus weight * sum over documents of
(supervised tokens of the document / supervised tokens of the step) * mean cost, where the mean
cost is a plain loop over the draws of that document alone.

Shape letters: B rows, T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import gc
import math
import os
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import optimizer as optimizer_module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from semtube import SemanticTube, UserError, attach
from semtube.models import step_hooks
from semtube.objectives.random_keys import document_keys, fold
from semtube.objectives.sampling import draw_spans, draw_triplets
from semtube.objectives.trajectories import ANSWER, PADDING, PROMPT, SYSTEM, TEMPLATE

transformers = pytest.importorskip("transformers")
# PEFT and TRL still use names that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")

VOCABULARY, WIDTH, LAYERS = 61, 16, 3
TUBE = SemanticTube(weight=0.7, draws=2)
SPAN = SemanticTube(weight=0.7, draws=2, form="span")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(family: str = "llama", seed: int = 0) -> nn.Module:
    """A small random model without dropout, in float32 and in training mode."""
    shared = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
    tokens = {"max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(seed)
    if family == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_positions=64,
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).train()
    if family == "qwen3":
        config = transformers.Qwen3Config(**shared, **heads, **tokens, head_dim=8)
        return transformers.Qwen3ForCausalLM(config).train()
    if family == "gemma2":
        config = transformers.Gemma2Config(**shared, **heads, **tokens, head_dim=8)
        return transformers.Gemma2ForCausalLM(config).train()
    config = transformers.LlamaConfig(**shared, **heads, **tokens, initializer_range=0.2)
    return transformers.LlamaForCausalLM(config).train()


Example = tuple[list[int], int]


def examples(lengths: list[int], *, seed: int = 0, vocabulary: int = VOCABULARY) -> list[Example]:
    """Token ids of each document and how many of its first tokens are not supervised."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for length in lengths:
        ids = torch.randint(3, vocabulary, (length,), generator=generator).tolist()
        prompt = int(torch.randint(0, max(length // 2, 1), (1,), generator=generator))
        result.append((ids, prompt))
    return result


EIGHT = [9, 4, 12, 2, 7, 15, 5, 10]


def padded(batch: list[Example], side: str = "right") -> dict[str, Tensor]:
    width = max(len(ids) for ids, _ in batch)
    input_BT = torch.full((len(batch), width), 2)
    mask_BT = torch.zeros(len(batch), width, dtype=torch.long)
    labels_BT = torch.full((len(batch), width), -100)
    for row, (ids, prompt) in enumerate(batch):
        first = width - len(ids) if side == "left" else 0
        place = slice(first, first + len(ids))
        input_BT[row, place], mask_BT[row, place] = torch.tensor(ids), 1
        # Nothing predicts a first token; left-padded hosts would predict it from the padding.
        begin = max(prompt, 1)
        labels_BT[row, first + begin : first + len(ids)] = torch.tensor(ids[begin:])
    return {"input_ids": input_BT, "attention_mask": mask_BT, "labels": labels_BT}


def packed(batch: list[Example], *, boundaries: bool) -> dict[str, Tensor]:
    ids = [token for tokens, _ in batch for token in tokens]
    labels = [
        token if j >= max(prompt, 1) else -100
        for tokens, prompt in batch
        for j, token in enumerate(tokens)
    ]
    lengths = [len(tokens) for tokens, _ in batch]
    fields = {
        "input_ids": torch.tensor([ids]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "use_cache": False,  # with a cache, transformers does not look for packing
    }
    if boundaries:
        fields["cu_seq_lens_q"] = torch.tensor([0, *lengths]).cumsum(0).int()
        fields["cu_seq_lens_k"] = fields["cu_seq_lens_q"]
    return fields


def supervised_tokens(batch: list[Example]) -> int:
    return sum(len(ids) - max(prompt, 1) for ids, prompt in batch)


# --- The oracle.


def document_cost(
    objective: SemanticTube, states_TD: Tensor, ids: list[int], key: int
) -> Tensor | None:
    """Mean cost of one document whose tokens are all content, by a loop over its draws."""
    key_1 = fold(document_keys(torch.tensor(ids), torch.zeros(len(ids)).long(), 1), key)
    draw = draw_triplets if objective.form == "triplet" else draw_spans
    size = len(ids) if objective.form == "triplet" else len(ids) - 1
    ranks, valid = draw(
        torch.tensor([size]), key_1, objective.draws,
        law=objective.law, max_length=objective.max_length,
    )  # fmt: skip
    if not valid.item():
        return None
    costs = []
    for rank in ranks[0].tolist():
        if objective.form == "triplet":
            s, r, t = rank
            first_D, second_D = states_TD[r] - states_TD[s], states_TD[t] - states_TD[r]
        else:
            start, stop = rank
            first_D = states_TD[stop] - states_TD[start]
            second_D = states_TD[-1] - states_TD[0] - first_D
        costs.append(1 - torch.dot(first_D, second_D) / (first_D.norm() * second_D.norm()))
    return sum(costs) / len(costs)


def oracle_loss(
    model: nn.Module,
    objectives: list[SemanticTube],
    batch: list[Example],
    *,
    key: int = 0,
    num_items: int | None = None,
) -> Tensor:
    """Next-token loss and terms, one document after another: no padding, no hook."""
    num_items = num_items or supervised_tokens(batch)
    total = torch.zeros(())
    for ids, prompt in batch:
        output = model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        logits_TV = output.logits[0].float()
        first = max(prompt, 1)
        target_T = torch.tensor(ids)
        total = total + F.cross_entropy(
            logits_TV[first - 1 : -1], target_T[first:], reduction="sum"
        )
        for objective in objectives:
            layer = objective.layer
            cost = document_cost(objective, output.hidden_states[layer][0], ids, key)
            if cost is not None:
                total = total + objective.weight * (len(ids) - first) * cost
    return total / num_items


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def gradient_of(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    found = gradients(model)
    model.zero_grad()
    return found


def attached_gradient(
    model: nn.Module, objective: SemanticTube, fields: dict, **options
) -> dict[str, Tensor]:
    with attach(model, objective, **options):
        return gradient_of(model, model(**fields).loss)


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Norm of the difference relative to the norm of the first."""
    assert first.keys() == second.keys()
    apart = sum((first[name] - second[name]).square().sum() for name in first)
    return float((apart / sum(value.square().sum() for value in first.values())).sqrt())


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


TOLERANCE = 2e-5


# --- The gradient.


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma2"])
@pytest.mark.parametrize("objective", [TUBE, SPAN], ids=["triplet", "span"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_gradient_is_that_of_the_loss_plus_the_weighted_term(family, objective, side):
    if family == "gpt2" and side == "left":
        side = "right"  # learned positions count the padding, so the documents would differ
    model, batch = tiny(family), examples(EIGHT[:5])
    expected = gradient_of(model, oracle_loss(model, [objective], batch, key=3 * 2**32))
    plain = gradient_of(model, oracle_loss(model, [], batch))
    found = attached_gradient(model, objective, padded(batch, side), seed=3)
    assert distance(expected, plain) > 0.02
    assert distance(expected, found) < TOLERANCE


def test_the_gradient_is_right_on_a_trained_model():
    if "SEMTUBE_SHARED" not in os.environ:
        pytest.skip("SEMTUBE_SHARED names the folder with models/stories260k; it is not set")
    folder = os.path.join(os.environ["SEMTUBE_SHARED"], "models", "stories260k")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    batch = examples([40, 9, 64, 2, 23], vocabulary=512)
    for objective in (TUBE, SPAN, SemanticTube(weight=0.7, layer=3)):
        expected = gradient_of(model, oracle_loss(model, [objective], batch))
        found = attached_gradient(model, objective, padded(batch))
        assert distance(expected, found) < TOLERANCE
        plain = gradient_of(model, oracle_loss(model, [], batch))
        assert distance(expected, plain) > 1e-3


@pytest.mark.parametrize("fault", ["sign", "mean_over_rows", "no_division", "wrong_step"])
def test_the_oracle_notices_a_planted_fault(monkeypatch, fault):
    model, batch = tiny(), examples(EIGHT[:5])
    expected = gradient_of(model, oracle_loss(model, [TUBE], batch))
    seed = 0
    if fault == "wrong_step":
        seed = 1
    else:
        real = step_hooks.ForwardPass.weigh_by_loss

        def weigh(self, grad):
            real(self, grad)
            if fault == "sign":
                self.share_N = -self.share_N
            elif fault == "mean_over_rows":
                self.weigh_alike(grad)
            else:
                self.share_N = self.share_N * self.batch.supervised().sum()

        monkeypatch.setattr(step_hooks.ForwardPass, "weigh_by_loss", weigh)
    found = attached_gradient(model, TUBE, padded(batch), seed=seed)
    assert distance(expected, found) > 100 * TOLERANCE


@pytest.mark.parametrize("factor", [0.125, 1024.0])
def test_what_multiplies_the_loss_multiplies_the_term(factor):
    model, fields = tiny(), padded(examples(EIGHT[:5]))
    once = attached_gradient(model, TUBE, fields)
    with attach(model, TUBE):
        scaled = gradient_of(model, factor * model(**fields).loss)
    assert distance(once, {name: value / factor for name, value in scaled.items()}) < 1e-6


def test_the_visible_loss_and_logits_are_the_plain_ones_bit_for_bit():
    model, fields = tiny(), padded(examples(EIGHT[:5]))
    plain = model(**fields)
    with attach(model, TUBE):
        seen = model(**fields)
        seen.loss.backward()
    assert torch.equal(seen.loss, plain.loss)
    assert torch.equal(seen.logits, plain.logits)


def test_two_objectives_add_their_gradients():
    model, batch = tiny(), examples(EIGHT[:5])
    expected = gradient_of(model, oracle_loss(model, [TUBE, SPAN], batch))
    with attach(model, TUBE), attach(model, SPAN):
        found = gradient_of(model, model(**padded(batch)).loss)
    assert distance(expected, found) < TOLERANCE


def test_forward_passes_may_be_several_before_their_backward():
    model = tiny()
    first, second = examples([9, 4, 12]), examples([7, 11], seed=1)
    expected = gradient_of(
        model, oracle_loss(model, [TUBE], first) + 3 * oracle_loss(model, [TUBE], second)
    )
    with attach(model, TUBE):
        losses = [model(**padded(batch)).loss for batch in (first, second)]
        with torch.no_grad():
            model(**padded(second))
        found = gradient_of(model, losses[0] + 3 * losses[1])
    assert distance(expected, found) < TOLERANCE


def test_a_document_without_supervised_tokens_has_no_share():
    model = tiny()
    batch = [(ids, len(ids)) if n == 2 else (ids, p) for n, (ids, p) in enumerate(examples(EIGHT))]
    expected = gradient_of(
        model, oracle_loss(model, [TUBE], [one for n, one in enumerate(batch) if n != 2])
    )
    assert distance(expected, attached_gradient(model, TUBE, padded(batch))) < TOLERANCE


def test_a_micro_batch_without_supervised_tokens_changes_nothing():
    model = tiny()
    batch = [(ids, len(ids)) for ids, _ in examples(EIGHT)]
    with attach(model, TUBE):
        found = gradient_of(model, model(**padded(batch), num_items_in_batch=torch.tensor(9)).loss)
    assert all(value.isfinite().all() and not value.any() for value in found.values())


@pytest.mark.parametrize("num_items", [0, torch.tensor(0)], ids=["number", "tensor"])
def test_a_step_without_any_supervised_token_adds_nothing(num_items):
    # The host's loss is 0 / 0 there, its gradient 0.
    model = tiny()
    fields = padded([(ids, len(ids)) for ids, _ in examples(EIGHT)])
    with attach(model, TUBE):
        found = gradient_of(model, model(**fields, num_items_in_batch=num_items).loss)
    assert all(value.isfinite().all() and not value.any() for value in found.values())


def test_bfloat16_states_keep_the_gradient_finite_and_in_their_type():
    model = tiny().to(torch.bfloat16)
    found = attached_gradient(model, TUBE, padded(examples(EIGHT)))
    plain = gradient_of(model, model(**padded(examples(EIGHT))).loss)
    assert all(value.dtype == torch.bfloat16 and value.isfinite().all() for value in found.values())
    assert distance(plain, found) > 0.02


def test_autocast_leaves_the_term_in_float32():
    model, batch = tiny(), examples(EIGHT[:5])
    with attach(model, TUBE), torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradient_of(model, model(**padded(batch)).loss)
    expected = gradient_of(model, oracle_loss(model, [TUBE], batch))
    plain = gradient_of(model, oracle_loss(model, [], batch))
    assert distance(expected, found) < 0.25 * distance(expected, plain)


# --- Layers.


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("layer", [1, 2, 3, -1, -2, -3])
@pytest.mark.parametrize("checkpointing", [None, "non_reentrant", "reentrant"])
def test_every_layer_gets_its_gradient_with_and_without_checkpointing(family, layer, checkpointing):
    model, batch = tiny(family), examples(EIGHT[:5])
    # hidden_states[k] is the state after layer k, the last one after the final norm.
    index = layer if layer > 0 else LAYERS + 1 + layer
    at_index = SemanticTube(weight=0.7, draws=2, layer=index)
    expected = gradient_of(model, oracle_loss(model, [at_index], batch))
    model.config.use_cache = False
    if checkpointing:
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": checkpointing == "reentrant"}
        )
    objective = SemanticTube(weight=0.7, draws=2, layer=layer)
    found = attached_gradient(model, objective, padded(batch))
    assert distance(expected, found) < TOLERANCE


def result_or_refusal(action: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor] | str:
    """What the action returns, or the text of the UserError it raises."""
    try:
        return action()
    except UserError as error:
        return str(error)


def checkpoint_with_hooks(monkeypatch, model: nn.Module, *, use_reentrant: bool) -> None:
    """Checkpointing around `__call__`, as in older transformers: hooks run again in backward."""
    model.config.use_cache = False

    def call(self, *args, **kwargs):
        return checkpoint(
            partial(nn.Module.__call__, self, **kwargs), *args, use_reentrant=use_reentrant
        )

    monkeypatch.setattr(type(model.model.layers[0]), "__call__", call)


def test_a_hook_that_runs_again_in_the_backward_adds_its_gradient_and_logs_once(monkeypatch):
    model, batch = tiny(), examples(EIGHT[:5])
    objective = SemanticTube(weight=0.7, draws=2, layer=2)
    expected = gradient_of(model, oracle_loss(model, [objective], batch))
    checkpoint_with_hooks(monkeypatch, model, use_reentrant=False)
    with attach(model, objective) as handle:
        found = gradient_of(model, model(**padded(batch)).loss)
        assert handle.pop_logs()["term_documents"] == 4
    assert distance(expected, found) < TOLERANCE


def test_a_hook_that_runs_again_belongs_to_its_own_forward_pass(monkeypatch):
    model = tiny()
    first, second = examples([9, 4, 12]), examples([7, 11], seed=1)
    objective = SemanticTube(weight=0.7, draws=2, layer=2)
    expected = gradient_of(
        model, oracle_loss(model, [objective], first) + oracle_loss(model, [objective], second)
    )
    checkpoint_with_hooks(monkeypatch, model, use_reentrant=False)
    with attach(model, objective):
        losses = [model(**padded(batch)).loss for batch in (first, second)]
        found = gradient_of(model, losses[0] + losses[1])
    assert distance(expected, found) < TOLERANCE


def test_an_interior_layer_under_reentrant_checkpointing_is_right_or_refused(monkeypatch):
    model, batch = tiny(), examples(EIGHT[:5])
    objective = SemanticTube(weight=0.7, draws=2, layer=2)
    expected = gradient_of(model, oracle_loss(model, [objective], batch))
    checkpoint_with_hooks(monkeypatch, model, use_reentrant=True)
    found = result_or_refusal(lambda: attached_gradient(model, objective, padded(batch)))
    if isinstance(found, str):
        assert "reentrant" in found
    else:
        assert distance(expected, found) < TOLERANCE


@pytest.mark.parametrize("layer", [4, -4, 99])
def test_a_layer_that_does_not_exist_is_refused_with_the_range(layer):
    with pytest.raises(UserError, match=rf"layer is {layer}.*use 1 to 3, or -1 to -3"):
        attach(tiny(), SemanticTube(layer=layer))


def test_layer_zero_is_refused():
    with pytest.raises(ValueError, match="layer is 0"):
        attach(tiny(), SemanticTube(layer=0))


# --- However a step is split.


STEPS = 3
TWENTY_FOUR = [9, 4, 12, 2, 7, 15, 5, 10, 3, 3, 18, 6, 1, 8, 9, 11, 20, 2, 4, 6, 13, 7, 5, 16]
SPLITS = [(8, 1), (4, 2), (2, 4), (1, 8)]


def loop_weights(rows: int, *, objective: SemanticTube | None = TUBE) -> dict[str, Tensor]:
    """Weights after three steps of eight documents in micro-batches of `rows`."""
    model, data = tiny(), examples(TWENTY_FOUR)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    handle = attach(model, objective) if objective else None
    for step in range(STEPS):
        eight = data[8 * step : 8 * step + 8]
        num_items = torch.tensor(supervised_tokens(eight))
        for first in range(0, 8, rows):
            micro = padded(eight[first : first + rows])
            model(**micro, num_items_in_batch=num_items).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if handle:
        assert handle.step == STEPS
        handle.detach()
    return weights(model)


def oracle_weights(objectives: list[SemanticTube], learning_rate: float = 0.3) -> dict[str, Tensor]:
    model, data = tiny(), examples(TWENTY_FOUR)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for step in range(STEPS):
        model.zero_grad()
        oracle_loss(model, objectives, data[8 * step : 8 * step + 8], key=step).backward()
        optimizer.step()
    return weights(model)


def moved(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Difference of two runs relative to how far the first moved from the start."""
    start = weights(tiny())
    apart = sum((first[name] - second[name]).square().sum() for name in first)
    return float((apart / sum((first[n] - start[n]).square().sum() for n in first)).sqrt())


@pytest.mark.parametrize(("rows", "micro_batches"), SPLITS)
@pytest.mark.parametrize("objective", [TUBE, SPAN], ids=["triplet", "span"])
def test_a_plain_loop_gives_one_result_however_the_step_is_split(rows, micro_batches, objective):
    expected = oracle_weights([objective])
    assert moved(expected, oracle_weights([])) > 0.02
    assert moved(expected, loop_weights(rows, objective=objective)) < TOLERANCE


def test_the_split_would_show_if_each_micro_batch_were_divided_by_its_own_tokens(monkeypatch):
    real = step_hooks.ForwardPass.weigh_by_loss

    def weigh(self, grad):
        self.batch.num_items = None
        real(self, grad)

    monkeypatch.setattr(step_hooks.ForwardPass, "weigh_by_loss", weigh)
    assert moved(loop_weights(8), loop_weights(2)) > 100 * TOLERANCE


def trainer_weights(rows: int, micro_batches: int, folder, objective, **options):
    model, data = tiny(), examples(TWENTY_FOUR)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=micro_batches,
        max_steps=STEPS,
        optim="sgd",
        learning_rate=0.3,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        train_sampling_strategy="sequential",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        **options,
    )
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=data, data_collator=padded
    )
    if objective is None:
        trainer.train()
    else:
        with attach(model, objective) as handle:
            trainer.train()
        assert handle.step == STEPS
    return weights(model)


@pytest.mark.parametrize(("rows", "micro_batches"), SPLITS)
def test_an_unmodified_trainer_gives_one_result_however_the_step_is_split(
    rows, micro_batches, tmp_path
):
    found = trainer_weights(rows, micro_batches, tmp_path, TUBE)
    assert moved(oracle_weights([TUBE]), found) < TOLERANCE


def test_the_trainer_without_attach_is_the_plain_loop_without_a_term(tmp_path):
    # Otherwise the test above could pass for another reason.
    found = trainer_weights(2, 4, tmp_path, None)
    assert moved(oracle_weights([]), found) < TOLERANCE
    assert moved(oracle_weights([TUBE]), found) > 0.02


def test_without_a_token_count_each_micro_batch_is_a_mean_as_the_host_has_it():
    # Older hosts divide each mean by the number of micro-batches; the term follows.
    model, batch = tiny(), examples(EIGHT)
    halves = [batch[:4], batch[4:]]
    expected = gradient_of(
        model, sum(oracle_loss(model, [TUBE], half) for half in halves) / len(halves)
    )
    with attach(model, TUBE):
        found = gradient_of(model, sum(model(**padded(half)).loss for half in halves) / 2)
    assert distance(expected, found) < TOLERANCE


@pytest.mark.parametrize("boundaries", [False, True], ids=["position_ids", "cu_seq_lens"])
@pytest.mark.parametrize("objective", [TUBE, SPAN], ids=["triplet", "span"])
def test_packed_documents_give_the_gradient_of_padded_ones(boundaries, objective):
    model, batch = tiny(), examples(EIGHT)
    expected = gradient_of(model, oracle_loss(model, [objective], batch))
    found = attached_gradient(model, objective, packed(batch, boundaries=boundaries))
    assert distance(expected, found) < TOLERANCE


def test_boundaries_alone_tell_packed_documents_apart():
    fields = packed(examples(EIGHT), boundaries=True)
    del fields["position_ids"]
    model = tiny()
    with attach(model, TUBE) as handle:
        model(**fields).loss.backward()
        assert handle.pop_logs()["term_documents"] == 7  # one of the eight has two tokens


def test_packing_without_boundaries_is_one_document():
    fields = packed(examples(EIGHT), boundaries=False)
    del fields["position_ids"]
    model = tiny()
    with attach(model, TUBE) as handle:
        model(**fields).loss.backward()
        assert handle.pop_logs()["term_documents"] == 1


# --- What is not trained is not touched.


def hooks_of(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    names = (*kinds, "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    number = sum(len(getattr(module, name)) for module in model.modules() for name in names)
    return number + len(optimizer_module._global_optimizer_post_hooks)


def test_evaluation_is_bit_for_bit_that_of_a_model_never_attached():
    model, never, fields = tiny().eval(), tiny().eval(), padded(examples(EIGHT))
    expected = never(**fields)
    handle = attach(model, TUBE)
    found = model(**fields)
    assert torch.equal(found.logits, expected.logits)
    assert same(gradient_of(model, found.loss), gradient_of(never, expected.loss))
    with pytest.raises(UserError, match="no training step ran"):
        handle.detach()


def test_without_gradients_nothing_is_computed():
    model, never, fields = tiny(), tiny(), padded(examples(EIGHT))
    handle = attach(model, TUBE)
    with torch.no_grad():
        assert torch.equal(model(**fields).logits, never(**fields).logits)
    assert handle.pop_logs() == {}
    with pytest.raises(UserError, match="no training step ran"):
        handle.detach()


def test_weight_zero_trains_bit_for_bit_as_a_model_never_attached():
    model, never, fields = tiny(), tiny(), padded(examples(EIGHT))
    handle = attach(model, SemanticTube(weight=0.0))
    for one in (model, never):
        optimizer = torch.optim.AdamW(one.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            one(**fields).loss.backward()
            optimizer.step()
    assert same(weights(model), weights(never))
    assert same(gradients(model), gradients(never))
    handle.detach()


def test_detached_the_model_is_bit_for_bit_what_it_was():
    model, fields = tiny(), padded(examples(EIGHT))
    with attach(model, TUBE):
        model(**fields).loss.backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    never = tiny()
    never.load_state_dict(model.state_dict())
    for one in (model, never):
        one.zero_grad()
        optimizer = torch.optim.AdamW(one.parameters(), lr=0.01)
        for _ in range(2):
            one(**fields).loss.backward()
            optimizer.step()
    assert same(gradients(model), gradients(never))
    assert same(weights(model), weights(never))


@pytest.mark.parametrize("layer", [-1, 2])
def test_all_hooks_are_gone_after_detach_and_after_an_exception(layer):
    model, fields = tiny(), padded(examples(EIGHT))
    before = hooks_of(model)
    objective = SemanticTube(layer=layer)
    with attach(model, objective):
        assert hooks_of(model) > before
        model(**fields).loss.backward()
    assert hooks_of(model) == before
    with pytest.raises(RuntimeError, match="mine"), attach(model, objective):
        raise RuntimeError("mine")  # not covered up by "reached no gradient"
    assert hooks_of(model) == before
    with attach(model, objective):  # and it can be attached again
        model(**fields).loss.backward()
    assert hooks_of(model) == before


@pytest.mark.parametrize("objective", [TUBE, SemanticTube(weight=0.0)], ids=["on", "zero"])
def test_no_global_generator_is_touched(objective):
    model, fields = tiny(), padded(examples(EIGHT))
    before = torch.get_rng_state()
    with attach(model, objective):
        model(**fields).loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_state_dict_is_that_of_the_model():
    model = tiny()
    before = weights(model)
    handle = attach(model, SemanticTube(weight=0.0))
    assert same(weights(model), before)
    handle.detach()


# --- Memory and waiting.


def kept_bytes(model: nn.Module, fields: dict[str, Tensor]) -> int:
    """Bytes of the storages alive after the forward: in the graph and in Python objects."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(**fields).loss
    gc.collect()
    for value in gc.get_objects():
        if type(value) in (Tensor, nn.Parameter):
            note(value)
    loss.backward()
    model.zero_grad()
    return sum(kept.values())


@pytest.mark.parametrize(("objective", "layer"), [(TUBE, -1), (SPAN, 2)])
def test_no_states_are_kept_beside_those_of_the_plain_forward(objective, layer):
    model, fields = tiny(), padded(examples([60] * 8))
    state_bytes = 8 * 60 * WIDTH * 4
    plain = kept_bytes(model, fields)
    with attach(model, SemanticTube(form=objective.form, layer=layer)):
        attached = kept_bytes(model, fields)
    assert attached - plain < state_bytes / 2
    # The measure can fail: this is what keeping one more layer's states would look like.
    mine = []
    hook = model.model.layers[0].mlp.register_forward_hook(
        lambda module, args, output: mine.append(output.detach().clone())
    )
    assert kept_bytes(model, fields) - plain >= state_bytes
    hook.remove()


@pytest.mark.parametrize("objective", [TUBE, SPAN], ids=["triplet", "span"])
@pytest.mark.parametrize("backward", [True, False])
def test_the_last_hidden_state_is_released_after_the_step(objective, backward):
    model, fields = tiny(), padded(examples(EIGHT))
    seen = []
    handle = attach(model, objective)
    model.get_decoder().register_forward_hook(
        lambda module, args, output: seen.append(weakref.ref(output.last_hidden_state.grad_fn))
    )
    output = model(**fields)
    assert seen[0]() is not None
    if backward:
        output.loss.backward()
    del output
    gc.collect()
    assert seen[0]() is None
    if backward:
        handle.detach()
    else:
        with pytest.raises(UserError, match="no training step ran"):
            handle.detach()


def test_a_detached_model_can_be_freed():
    model = tiny()
    with attach(model, TUBE):
        model(**padded(examples(EIGHT))).loss.backward()
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


class _Reads(TorchDispatchMode):
    """Count the operations for which the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select",
                    "aten::equal", "aten::is_nonzero", "aten::_unique2"):  # fmt: skip
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layout", "more"), [("padded", 0), ("cu_seq_lens", 0), ("position_ids", 1)]
)
def test_a_step_waits_for_the_device_no_more_often_than_the_plain_one(layout, more):
    model, batch = tiny(), examples(EIGHT)
    fields = padded(batch) if layout == "padded" else packed(batch, boundaries=layout[0] == "c")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def reads() -> Counter:
        with _Reads() as seen:
            model(**fields, num_items_in_batch=torch.tensor(50)).loss.backward()
            optimizer.step()
        return seen.counts

    plain = reads()
    with attach(model, TUBE):
        attached = reads()
    # Only positions need one read: how many documents there are.
    assert attached - plain == Counter({"aten::_local_scalar_dense": more} if more else {})


class _FromHost(TorchFunctionMode):
    """Count the tensors made from Python values: on a GPU, a blocking copy each."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        makers = (torch.tensor, torch.as_tensor, Tensor.new_tensor)
        self.number += func in makers and not isinstance(args[-1], Tensor)
        return func(*args, **(kwargs or {}))


def test_a_step_copies_no_python_number_to_the_device():
    model, fields = tiny(), padded(examples(EIGHT))

    def copies() -> int:
        with _FromHost() as seen:
            model(**fields, num_items_in_batch=torch.tensor(50)).loss.backward()
        return seen.number

    plain = copies()
    with attach(model, TUBE):
        assert copies() == plain


# --- Steps, logs, resume.


def train(model: nn.Module, handle, steps: range) -> None:
    data = examples(TWENTY_FOUR)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for step in steps:
        optimizer.zero_grad()
        model(**padded(data[4 * step : 4 * step + 4])).loss.backward()
        optimizer.step()


def test_setting_the_step_resumes_the_draws_bit_for_bit():
    whole, resumed, wrong = tiny(), tiny(), tiny()
    with attach(whole, TUBE) as handle:
        train(whole, handle, range(4))
    with attach(resumed, TUBE) as handle:
        train(resumed, handle, range(2))
    state = weights(resumed)
    for model, step in ((resumed, 2), (wrong, 0)):
        model.load_state_dict(state)
        with attach(model, TUBE) as handle:
            handle.step = step
            train(model, handle, range(2, 4))
            assert handle.step == step + 2
    assert same(weights(whole), weights(resumed))
    assert not same(weights(whole), weights(wrong))


def test_the_step_counts_optimizer_steps_of_this_model_only():
    model, other = tiny(), tiny(seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    foreign = torch.optim.SGD(other.parameters(), lr=0.1)
    fields = padded(examples(EIGHT))
    with attach(model, TUBE) as handle:
        for _ in range(2):
            for _ in range(3):
                model(**fields).loss.backward()
            other(**fields).loss.backward()
            foreign.step()
            optimizer.step()
            foreign.step()
        assert handle.step == 2


def test_two_optimizers_for_one_model_make_one_step_together():
    # Muon for the matrices and AdamW for the rest is a common pair.
    model, batch = tiny(), examples(EIGHT)
    parameters = list(model.parameters())
    with attach(model, TUBE) as handle:
        optimizers = [torch.optim.SGD(parameters[:4], 0.1), torch.optim.SGD(parameters[4:], 0.1)]
        for _ in range(2):
            model(**padded(batch)).loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        assert handle.step == 2


def test_steps_and_seeds_change_the_draws_and_equal_ones_do_not():
    model, fields = tiny(), padded(examples(EIGHT))

    def found(seed: int, step: int) -> dict[str, Tensor]:
        with attach(model, TUBE, seed=seed) as handle:
            handle.step = step
            return gradient_of(model, model(**fields).loss)

    assert same(found(1, 5), found(1, 5))
    assert distance(found(1, 5), found(1, 6)) > 1e-3
    assert distance(found(1, 5), found(2, 5)) > 1e-3


def test_the_logs_are_the_mean_cost_and_the_documents():
    model, batch = tiny(), examples(EIGHT)
    costs = []
    for ids, _ in batch:
        states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
        cost = document_cost(TUBE, states[0], ids, 0)
        if cost is not None:
            costs.append(cost.item())
    with attach(model, TUBE) as handle:
        for half in (batch[:3], batch[3:]):
            model(**padded(half)).loss.backward()
        logs = handle.pop_logs()
        assert handle.pop_logs() == {}
    assert logs["term_loss"] == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    assert (logs["term_documents"], logs["term_skipped"]) == (7, 1)


def test_left_padded_positions_skip_no_document_in_the_logs():
    # Hosts with left padding give positions that stand still in the padding.
    fields = padded(examples([9, 5, 7]), "left")
    fields["position_ids"] = (fields["attention_mask"].cumsum(1) - 1).clamp_min(0)
    model = tiny()
    with attach(model, TUBE) as handle:
        model(**fields).loss.backward()
        logs = handle.pop_logs()
    assert (logs["term_documents"], logs["term_skipped"]) == (3, 0)


def test_a_term_without_any_document_warns_once_and_is_logged():
    model, fields = tiny(), padded(examples([2, 2]))
    plain = gradient_of(model, model(**fields).loss)
    with attach(model, TUBE) as handle:
        found = gradient_of(model, model(**fields).loss)
        with pytest.warns(UserWarning, match="no document that it can use"):
            logs = handle.pop_logs()
        assert logs["term_documents"] == 0
        assert logs["term_skipped"] == 2
        model(**fields).loss.backward()
        assert handle.pop_logs()["term_documents"] == 0  # warnings are errors: it is silent now
    assert same(plain, found)


def test_who_never_reads_the_log_is_told_at_the_end():
    model, useless, usable = tiny(), padded(examples([2, 2])), padded(examples([2, 9]))
    with pytest.warns(UserWarning, match="no document that it can use"), attach(model, TUBE):
        model(**useless).loss.backward()
    with attach(model, TUBE) as handle:  # warnings are errors: both are silent
        model(**usable).loss.backward()
    with attach(model, TUBE) as handle:
        model(**usable).loss.backward()
        handle.pop_logs()
        model(**useless).loss.backward()


# --- Roles and content.


def test_roles_choose_the_content_and_never_reach_the_model():
    model, ids = tiny(), examples([12])[0][0]
    roles = [TEMPLATE, SYSTEM, TEMPLATE, PROMPT, PROMPT, PROMPT, TEMPLATE, TEMPLATE, *[ANSWER] * 4]
    fields = padded([(ids, 8)])
    fields = {name: F.pad(value, (0, 3)) for name, value in fields.items()}
    fields["labels"][:, 12:] = -100
    roles_BT = torch.tensor([roles + [PADDING] * 3])
    kept = [j for j, role in enumerate(roles) if role in (PROMPT, ANSWER)]
    hidden_TD = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    # Oracle: the draws of this document over seven content tokens, put at their places.
    key_1 = fold(document_keys(torch.tensor(ids), torch.zeros(12).long(), 1), 0)
    triplets, _ = draw_triplets(torch.tensor([7]), key_1, 2)
    cost = torch.zeros(())
    for s, r, t in triplets[0].tolist():
        first_D = hidden_TD[kept[r]] - hidden_TD[kept[s]]
        second_D = hidden_TD[kept[t]] - hidden_TD[kept[r]]
        cost = cost + (1 - F.cosine_similarity(first_D, second_D, dim=0)) / 2
    expected = gradient_of(model, oracle_loss(model, [], [(ids, 8)]) + TUBE.weight * cost)
    with attach(model, TUBE), attach(model, SemanticTube(weight=0.0)):
        found = gradient_of(model, model(**fields, token_roles=roles_BT).loss)
        model.eval()
        model(**fields, token_roles=roles_BT)
        model.train()
    assert distance(expected, found) < TOLERANCE


def test_every_attachment_sees_the_roles_and_a_batch_without_them_forgets_the_last():
    model, batch = tiny(), examples([9, 9])
    fields = padded(batch)
    roles_BT = torch.full((2, 9), TEMPLATE)
    roles_BT[:, :2] = ANSWER  # too short for a triplet
    with attach(model, TUBE) as first, attach(model, SemanticTube(draws=3)) as second:
        model(**fields, token_roles=roles_BT).loss.backward()
        for handle in (first, second):
            with pytest.warns(UserWarning, match="no document"):
                assert handle.pop_logs()["term_documents"] == 0
        model(**fields).loss.backward()
        assert first.pop_logs()["term_documents"] == second.pop_logs()["term_documents"] == 2


def test_answer_content_without_roles_is_the_supervised_tokens():
    model, ids = tiny(), examples([12])[0][0]
    fields = padded([(ids, 7)])
    hidden_TD = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    key_1 = fold(document_keys(torch.tensor(ids), torch.zeros(12).long(), 1), 0)
    triplets, _ = draw_triplets(torch.tensor([5]), key_1, 1)
    s, r, t = (7 + rank for rank in triplets[0, 0].tolist())
    cost = 1 - F.cosine_similarity(hidden_TD[r] - hidden_TD[s], hidden_TD[t] - hidden_TD[r], dim=0)
    expected = gradient_of(model, oracle_loss(model, [], [(ids, 7)]) + 0.7 * cost)
    found = attached_gradient(model, SemanticTube(weight=0.7, content="answer"), fields)
    assert distance(expected, found) < TOLERANCE


def test_instruction_content_without_roles_is_refused():
    model = tiny()
    with (
        pytest.raises(UserError, match="token_roles"),
        attach(model, SemanticTube(content="instruction")),
    ):
        model(**padded(examples(EIGHT)))


# --- PEFT.


def test_lora_adapters_get_the_terms_gradient_and_the_base_gets_none():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(5)
    model = peft.get_peft_model(tiny(), config).train()
    batch = examples(EIGHT[:5])
    expected = gradient_of(model, oracle_loss(model, [TUBE], batch))
    found = attached_gradient(model, TUBE, padded(batch))
    assert found
    assert all("lora_" in name for name in found)
    assert distance(expected, found) < TOLERANCE
    assert distance(expected, gradient_of(model, oracle_loss(model, [], batch))) > 0.02
    # Attached to the model inside, it serves the host that calls the wrapper as well.
    with attach(model.get_base_model(), TUBE):
        assert distance(expected, gradient_of(model, model(**padded(batch)).loss)) < TOLERANCE


def test_a_host_that_calls_past_the_attached_wrapper_is_told_so():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny(), peft.LoraConfig(r=2, target_modules=["q_proj"])).train()
    with pytest.raises(UserError, match="outermost model"), attach(model, TUBE):
        model.get_base_model()(**padded(examples(EIGHT)))


@pytest.mark.parametrize("objective", [TUBE, SPAN], ids=["triplet", "span"])
def test_virtual_tokens_of_prompt_tuning_are_no_part_of_a_document(objective):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    torch.manual_seed(5)
    model = peft.get_peft_model(tiny(), config).train()
    batch = examples(EIGHT[:5])

    def oracle(objectives: list[SemanticTube]) -> Tensor:
        states = []
        hook = (
            model.get_base_model()
            .get_decoder()
            .register_forward_hook(
                lambda module, args, output: states.append(output.last_hidden_state)
            )
        )
        total = torch.zeros(())
        for ids, prompt in batch:
            logits_TV = model(input_ids=torch.tensor([ids])).logits[0, 5:]
            tokens = len(ids) - max(prompt, 1)
            target = torch.tensor(ids[max(prompt, 1) :])
            total = total + F.cross_entropy(
                logits_TV[max(prompt, 1) - 1 : -1], target, reduction="sum"
            )
            for objective in objectives:
                cost = document_cost(objective, states[-1][0, 5:], ids, 0)
                if cost is not None:
                    total = total + objective.weight * tokens * cost
        hook.remove()
        return total / supervised_tokens(batch)

    fields = padded(batch)
    expected = gradient_of(model, oracle([objective]))
    assert list(expected) == ["prompt_encoder.default.embedding.weight"]
    assert distance(expected, gradient_of(model, oracle([]))) > 0.02
    assert distance(expected, attached_gradient(model, objective, fields)) < TOLERANCE


def test_the_first_token_that_a_virtual_token_predicts_counts_as_the_host_counts_it():
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    torch.manual_seed(5)
    model = peft.get_peft_model(tiny(), config).train()
    fields = padded([(ids, 0) for ids, _ in examples([9, 4, 12])])
    fields["labels"][:, 0] = fields["input_ids"][:, 0]
    with attach(model, TUBE) as handle:
        output = model(**fields)
        output.loss.backward()
        share_N = handle._hooks._forward.share_N
    # Every token of the batch is predicted here, by its predecessor or by a virtual token.
    torch.testing.assert_close(share_N, torch.tensor([9.0, 4, 12]) / 25)


# --- Hosts that compute the loss themselves.


def outside(output, fields: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(output.logits[:, :-1].flatten(0, 1), fields["labels"][:, 1:].flatten())


def without_labels(fields: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in fields.items() if name != "labels"}


def test_a_loss_computed_outside_is_refused_with_the_reason():
    model, fields = tiny(), padded(examples(EIGHT))
    with pytest.raises(UserError, match=r"returned no loss.*loss_scale"), attach(model, TUBE):
        model(**without_labels(fields))


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_with_a_loss_scale_documents_weigh_alike(scale):
    model, batch = tiny(), examples(EIGHT)
    fields = padded(batch)
    term = torch.zeros(())
    for ids, _ in batch:
        states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
        cost = document_cost(TUBE, states[0], ids, 0)
        if cost is not None:
            term = term + TUBE.weight * cost / len(batch)
    expected = gradient_of(model, scale * (oracle_loss(model, [], batch) + term))
    with attach(model, TUBE, loss_scale=scale):
        loss = scale * outside(model(**without_labels(fields)), fields)
        assert distance(expected, gradient_of(model, loss)) < TOLERANCE


def test_labels_given_but_a_loss_from_the_logits_is_an_error_in_the_backward():
    model, fields = tiny(), padded(examples(EIGHT))
    handle = attach(model, TUBE)
    loss = outside(model(**fields), fields)
    with pytest.raises(UserError, match="something else than the loss the model returned"):
        loss.backward()
    with pytest.raises(UserError, match="reached no gradient"):
        handle.detach()


def test_a_term_that_never_reaches_the_gradient_is_an_error_at_the_step():
    model, fields = tiny(), padded(examples(EIGHT))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.lm_head.weight.grad = torch.zeros_like(model.lm_head.weight)
    handle = attach(model, TUBE)
    model(**fields)  # no backward
    with pytest.raises(UserError, match="never reached the gradient"):
        optimizer.step()
    with pytest.raises(UserError, match="reached no gradient"):
        handle.detach()


def test_a_decoder_that_never_runs_is_an_error_at_the_step():
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = attach(model, TUBE)
    model.lm_head(torch.randn(2, WIDTH)).sum().backward()
    with pytest.raises(UserError, match="LlamaModel never fired in a whole step"):
        optimizer.step()
    with pytest.raises(UserError, match="reached no gradient"):
        handle.detach()


def test_training_in_eval_mode_is_an_error_at_the_step():
    model = tiny().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = attach(model, TUBE)
    model(**padded(examples(EIGHT))).loss.backward()
    with pytest.raises(UserError, match="trains in eval mode"):
        optimizer.step()
    with pytest.raises(UserError, match="reached no gradient"):
        handle.detach()


def test_a_tuple_output_is_trained_or_refused_with_that_reason():
    model, fields = tiny(), padded(examples(EIGHT))
    expected = attached_gradient(model, TUBE, fields)

    def train() -> dict[str, Tensor]:
        with attach(model, TUBE):
            return gradient_of(model, model(**fields, return_dict=False)[0])

    found = result_or_refusal(train)
    if isinstance(found, str):
        assert "return_dict" in found
    else:
        assert distance(expected, found) < TOLERANCE


# --- Other refusals.


def test_an_equal_objective_is_not_attached_twice():
    model = tiny()
    handle = attach(model, SemanticTube(weight=0.0))
    with pytest.raises(UserError, match="attached to this model already"):
        attach(model, SemanticTube(weight=0.0))
    before = hooks_of(model)
    handle.detach()
    assert hooks_of(model) < before
    attach(model, SemanticTube(weight=0.0)).detach()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (lambda: ("gpt2", TUBE), "model is a str: give the torch module"),
        (lambda: (TUBE, tiny()), "model is a SemanticTube: give the torch module"),
        (lambda: (tiny(), tiny()), "objective is no objective: give one"),
        (lambda: (tiny(), SemanticTube), "objective is the class SemanticTube: give one"),
    ],
)
def test_arguments_that_are_no_model_or_no_objective_are_told_shortly(arguments, sentence):
    with pytest.raises(UserError, match="^" + sentence) as raised:
        attach(*arguments())
    assert len(str(raised.value)) < 120


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("loss_scale", value) for value in ("1", 0, -1.0, math.nan, math.inf, True)),
        *(("seed", value) for value in ("1", -1, 0.5, None)),
    ],
)
def test_a_seed_or_scale_that_is_none_is_refused(name, value):
    with pytest.raises(UserError, match=f"^{name} is {value!r}: "):
        attach(tiny(), TUBE, **{name: value})


def test_detaching_without_any_training_is_an_error():
    model = tiny()
    before = hooks_of(model)
    with pytest.raises(UserError, match="reached no gradient"), attach(model, TUBE):
        pass
    assert hooks_of(model) == before


def test_data_parallel_is_refused():
    with pytest.raises(UserError, match=r"nn\.DataParallel.*DistributedDataParallel"):
        attach(nn.DataParallel(tiny()), TUBE)


def test_a_replica_of_data_parallel_is_refused():
    model = tiny()
    with attach(model, SemanticTube(weight=0.0)):
        model._is_replica = True
        with pytest.raises(UserError, match=r"nn\.DataParallel"):
            model(**padded(examples(EIGHT)))
        model._is_replica = False


def test_frozen_states_are_refused():
    model = tiny()
    model.requires_grad_(False)
    model.lm_head.weight.requires_grad_(True)
    with pytest.raises(UserError, match="need no gradient"), attach(model, TUBE):
        model(**padded(examples(EIGHT)))


def test_a_mask_of_four_dimensions_is_refused():
    model, fields = tiny(), padded(examples([6, 6]))
    fields["attention_mask"] = torch.ones(2, 1, 6, 6).tril().bool()
    with pytest.raises(UserError, match="4 dimensions"), attach(model, TUBE):
        model(**fields)


def test_a_mask_of_four_dimensions_is_no_matter_where_roles_are_given():
    model, fields = tiny(), padded(examples([6, 6]))
    expected = attached_gradient(model, TUBE, fields)
    fields["attention_mask"] = torch.ones(2, 1, 6, 6).tril().bool()
    with attach(model, TUBE):
        loss = model(**fields, token_roles=torch.full((2, 6), ANSWER)).loss
        assert distance(expected, gradient_of(model, loss)) < TOLERANCE


class Homemade(nn.Module):
    """A model of no library: the body returns the states as a bare tensor, or in a tuple."""

    def __init__(self, body_width: int = WIDTH, in_tuple: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.body = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.narrow = nn.Linear(WIDTH, 4)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        states_BTD = self.body(self.embed(input_ids).cumsum(1))
        self.narrow(states_BTD)
        logits_BTV = self.head(states_BTD)
        loss = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits_BTV}


@pytest.mark.parametrize("by_name", [True, False])
def test_a_decoder_may_be_given(by_name):
    torch.manual_seed(0)
    model, ids = Homemade(), torch.randint(3, VOCABULARY, (2, 9))
    fields = {"input_ids": ids, "labels": ids}
    found = attached_gradient_of_dict(model, fields, "body" if by_name else model.body)
    states_BTD = model.body(model.embed(ids).cumsum(1))
    costs = [document_cost(TUBE, states_BTD[n], ids[n].tolist(), 0) for n in range(2)]
    expected = gradient_of(model, model(**fields)["loss"] + TUBE.weight * sum(costs) / 2)
    assert distance(expected, found) < TOLERANCE


def attached_gradient_of_dict(model: nn.Module, fields: dict, decoder) -> dict[str, Tensor]:
    with attach(model, TUBE, decoder=decoder):
        return gradient_of(model, model(**fields)["loss"])


def test_a_model_without_get_decoder_asks_for_one():
    with pytest.raises(UserError, match=r"pass attach\(\.\.\., decoder="):
        attach(Homemade(), TUBE)


def test_a_decoder_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="no module 'trunk'"):
        attach(Homemade(), TUBE, decoder="trunk")
    with pytest.raises(UserError, match="not a part of the model"):
        attach(Homemade(), TUBE, decoder=nn.Linear(2, 2))


def test_a_decoder_of_the_wrong_width_is_refused():
    ids = torch.randint(3, VOCABULARY, (2, 9))
    model = Homemade()
    with (
        pytest.raises(UserError, match="width 4, the head reads 16"),
        attach(model, TUBE, decoder="narrow"),
    ):
        model(input_ids=ids, labels=ids)


def test_an_interior_layer_needs_a_config():
    with pytest.raises(UserError, match="only -1 works for a model without a config"):
        attach(Homemade(), SemanticTube(layer=1), decoder="body")


def test_a_refused_attach_leaves_no_trace():
    model = tiny()
    before = hooks_of(model)
    for objective, options in ((SemanticTube(layer=9), {}), (TUBE, {"decoder": "nowhere"})):
        with pytest.raises(UserError):
            attach(model, objective, **options)
    assert hooks_of(model) == before
    assert not step_hooks.Shared.of(model).live


def test_a_copy_of_an_attached_model_runs():
    # Averaged weights and reference models are made by deepcopy, often while training.
    import copy

    model, fields = tiny(), padded(examples(EIGHT))
    with attach(model, TUBE):
        model(**fields).loss.backward()
        replica = copy.deepcopy(model).eval()
        assert torch.equal(replica(**fields).logits, model(**fields).logits)


# --- TRL.


def trl_weights(folder, objective, rows: int, micro_batches: int, **options):
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    from tokenizers import Tokenizer, models

    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")),
        pad_token="w2", eos_token="w2", bos_token="w1", unk_token="w0",
    )  # fmt: skip
    lengths = [length for length in TWENTY_FOUR if length > 1]
    data = [(ids, 0) for ids, _ in examples(lengths[:16])]
    arguments = trl.SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=micro_batches,
        max_steps=2,
        optim="sgd",
        learning_rate=0.3,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        train_sampling_strategy="sequential",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        dataloader_pin_memory=False,
        **options,
    )
    model = tiny()
    trainer = trl.SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict({"input_ids": [ids for ids, _ in data]}),
        processing_class=tokenizer,
    )
    if objective is None:
        trainer.train()
    else:
        with attach(model, objective):
            trainer.train()
    rows_per_step = rows * micro_batches
    steps = []
    for step in range(2):
        taken = trainer.train_dataset[step * rows_per_step : (step + 1) * rows_per_step]
        documents = []
        for number, ids in enumerate(taken["input_ids"]):
            lengths = taken["seq_lengths"][number] if "seq_lengths" in taken else [len(ids)]
            for length in lengths:
                documents.append((ids[:length], 0))
                ids = ids[length:]
        steps.append(documents)
    return weights(model), steps


def two_oracle_steps(
    steps: list[list[Example]], objectives: list[SemanticTube]
) -> dict[str, Tensor]:
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for step, documents in enumerate(steps):
        model.zero_grad()
        oracle_loss(model, objectives, documents, key=step).backward()
        optimizer.step()
    return weights(model)


@pytest.mark.parametrize(
    ("rows", "micro_batches", "options"),
    [
        (8, 1, {"max_length": None}),
        (2, 4, {"max_length": None}),
        (4, 2, {"max_length": None, "padding_free": True}),
        (1, 2, {"max_length": 32, "packing": True}),
    ],
    ids=["padded", "accumulated", "padding_free", "packed"],
)
def test_the_term_arrives_in_trl_with_its_fused_loss(rows, micro_batches, options, tmp_path):
    found, steps = trl_weights(tmp_path, TUBE, rows, micro_batches, **options)
    assert sum(map(len, steps)) > 10
    expected = two_oracle_steps(steps, [TUBE])
    assert moved(expected, two_oracle_steps(steps, [])) > 0.02
    assert moved(expected, found) < TOLERANCE
