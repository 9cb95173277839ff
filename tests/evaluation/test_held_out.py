"""Held-out rows: the model's own loss, a tube loss that is known, and stopping by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from semtube.data.examples import Example, Message
from semtube.data.rendering import IGNORED, Rendered, Renderer
from semtube.evaluation import batching
from semtube.evaluation.held_out import held_out_losses, measure_held_out
from semtube.objectives.trajectories import ANSWER, PROMPT, SYSTEM, TEMPLATE

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")

VOCABULARY, PAD = 50, 0


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_rows(lengths, seed=0) -> list[Rendered]:
    """Template, system, prompt and answer of random tokens; answers and the last token trained."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, length in enumerate(lengths):
        ids = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        num_answer = max(1, length // 3)
        roles = [TEMPLATE, SYSTEM] + [PROMPT] * (length - num_answer - 3)
        roles += [ANSWER] * num_answer + [TEMPLATE]
        first = length - num_answer - 1
        labels = [IGNORED] * first + ids[first:]
        rows.append(Rendered(ids, roles, labels, first, "a", "p", f"x:{number}", "d", False))
    return rows


ROWS = random_rows([12, 7, 30, 9, 18, 6, 23])


def llama(**options):
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        pad_token_id=PAD, initializer_range=0.3, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def padded(rows, name, fill):
    width = max(len(row.input_ids) for row in rows)
    return torch.tensor(
        [getattr(row, name) + [fill] * (width - len(getattr(row, name))) for row in rows]
    )


def test_the_loss_is_the_models_own_loss_on_one_batch():
    model = llama()
    batch = {
        "input_ids": padded(ROWS, "input_ids", PAD),
        "labels": padded(ROWS, "labels", IGNORED),
        "attention_mask": torch.tensor(
            [[1] * len(row.input_ids) + [0] * (30 - len(row.input_ids)) for row in ROWS]
        ),
    }
    with torch.no_grad():
        wanted = float(model(**batch).loss)
    found = held_out_losses(model, ROWS, pad_id=PAD)["loss"]
    assert found["mean"] == pytest.approx(wanted, rel=1e-5)
    assert found["num_examples"] == len(ROWS)


@torch.no_grad()
def loss_sums(model, rows) -> list[tuple[float, int]]:
    """Sum and count of each row alone, by a loop over its targets."""
    sums = []
    for row in rows:
        logits = model(torch.tensor([row.input_ids])).logits[0].double()
        losses = [
            float(torch.logsumexp(logits[i - 1], 0) - logits[i - 1, label])
            for i, label in enumerate(row.labels)
            if i > 0 and label != IGNORED
        ]
        sums.append((sum(losses), len(losses)))
    return sums


def test_the_loss_is_a_mean_over_tokens_and_not_over_rows():
    model = llama()
    sums = loss_sums(model, ROWS)
    over_tokens = sum(total for total, _ in sums) / sum(count for _, count in sums)
    over_rows = sum(total / count for total, count in sums) / len(sums)
    found = held_out_losses(model, ROWS, pad_id=PAD)["loss"]["mean"]
    assert found == pytest.approx(over_tokens, rel=1e-5)
    assert abs(over_tokens - over_rows) > 1e-3  # positive control: the two are apart


def test_the_interval_of_the_loss_is_the_delta_method_by_hand():
    model = llama()
    sums = loss_sums(model, ROWS)
    n, tokens = len(sums), sum(count for _, count in sums)
    ratio = sum(total for total, _ in sums) / tokens
    residuals = [(total - ratio * count) / (tokens / n) for total, count in sums]
    error = math.sqrt(sum(r * r for r in residuals) / (n - 1) / n)
    found = held_out_losses(model, ROWS, pad_id=PAD)["loss"]
    assert found["low"] == pytest.approx(ratio - 1.96 * error, rel=1e-5)
    assert found["high"] == pytest.approx(ratio + 1.96 * error, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_both_losses_do_not_depend_on_the_batch_size(batch_size):
    model = llama()
    whole = held_out_losses(model, ROWS, pad_id=PAD, batch_size=32)
    parts = held_out_losses(model, ROWS, pad_id=PAD, batch_size=batch_size)
    tokens = held_out_losses(model, ROWS, pad_id=PAD, batch_tokens=30 * batch_size)
    for name in ("loss", "tube_loss"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-5)
        assert tokens[name] == pytest.approx(whole[name], rel=1e-5)


def test_logits_of_more_tokens_than_fit_are_made_in_turn(monkeypatch):
    model = llama()
    sizes = []
    model.lm_head.register_forward_hook(lambda module, args, output: sizes.append(output.numel()))
    whole = held_out_losses(model, ROWS, pad_id=PAD)
    assert sizes == [len(ROWS) * 30 * VOCABULARY]
    sizes.clear()
    monkeypatch.setattr(batching, "MAX_LOGITS", 60 * VOCABULARY)
    parts = held_out_losses(model, ROWS, pad_id=PAD)
    assert max(sizes) <= 60 * VOCABULARY
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_the_padding_id_and_the_order_of_the_rows_do_not_matter():
    model = llama()
    whole = held_out_losses(model, ROWS, pad_id=PAD)
    for other in (
        held_out_losses(model, ROWS, pad_id=17),
        held_out_losses(model, ROWS[::-1], pad_id=PAD),
    ):
        for name in ("loss", "tube_loss"):
            assert other[name] == pytest.approx(whole[name], rel=1e-5)


def test_no_global_generator_takes_part():
    model = llama()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = held_out_losses(model, ROWS, pad_id=PAD)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert held_out_losses(model, ROWS, pad_id=PAD) == one


class FakeDecoder(nn.Module):
    """States of a known shape in place of a network."""

    def __init__(self, states):
        super().__init__()
        self.states = states

    def forward(self, input_ids, attention_mask, use_cache=False):
        return SimpleNamespace(last_hidden_state=self.states(input_ids))


class FakeModel(nn.Module):
    """A causal language model around given states."""

    def __init__(self, states, width=3):
        super().__init__()
        self.config = transformers.LlamaConfig(vocab_size=VOCABULARY)
        self.decoder = FakeDecoder(states)
        self.head = nn.Linear(width, VOCABULARY)

    def get_decoder(self):
        return self.decoder

    def forward(self, **batch):
        hidden = self.decoder(**batch).last_hidden_state
        return SimpleNamespace(logits=self.head(hidden))


def straight(input_ids):
    """Equal steps along one direction, another start and direction in each row."""
    rows, tokens = input_ids.shape
    step = torch.arange(tokens, dtype=torch.float32)[None, :, None]
    turn = torch.arange(1, rows + 1, dtype=torch.float32)[:, None, None]
    return turn * torch.tensor([1.0, -2.0, 0.5]) * step + torch.tensor([3.0, 0.0, 1.0])


def back_and_forth(input_ids):
    """On a line, but every displacement is the reverse of the last: cos = -1 where it counts."""
    rows, tokens = input_ids.shape
    place = torch.arange(tokens) % 2
    return place[None, :, None].float().expand(rows, tokens, 3)


def test_the_tube_loss_of_a_straight_line_is_zero():
    found = held_out_losses(FakeModel(straight), ROWS, pad_id=PAD)["tube_loss"]
    assert found["mean"] == pytest.approx(0.0, abs=1e-6)
    assert (found["low"], found["high"]) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert found["num_examples"] == len(ROWS)


def test_the_tube_loss_of_a_path_that_turns_back_is_two():
    # Triplets with a zero displacement have no direction and do not count.
    found = held_out_losses(FakeModel(back_and_forth), ROWS, pad_id=PAD)["tube_loss"]
    assert found["mean"] == pytest.approx(2.0, abs=1e-6)


def test_the_tube_loss_of_memoryless_states_is_one_and_a_half():
    # 1 - E cos(b - a, c - b) = 1.5 up to 1 / width; a cost deviates by about 1 / sqrt(width).
    width = 512

    def noise(input_ids):
        generator = torch.Generator().manual_seed(int(input_ids.sum()))
        return torch.randn(*input_ids.shape, width, generator=generator)

    found = held_out_losses(FakeModel(noise, width), random_rows([40] * 50), pad_id=PAD)
    assert found["tube_loss"]["mean"] == pytest.approx(1.5, abs=0.01)


def test_system_and_template_tokens_are_no_part_of_the_trajectory():
    by_length = sorted(ROWS, key=lambda row: -len(row.input_ids))  # the order of measuring
    roles = padded(by_length, "roles", -1)

    def line_with_noise_beside_the_text(input_ids):
        states = straight(input_ids)
        beside = (roles == SYSTEM) | (roles == TEMPLATE)
        return torch.where(beside[..., None], torch.full_like(states, 77.0), states)

    found = held_out_losses(FakeModel(line_with_noise_beside_the_text), ROWS, pad_id=PAD)
    assert found["tube_loss"]["mean"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = llama(attention_dropout=0.5).train(training)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    weights = [parameter.clone() for parameter in model.parameters()]
    held_out_losses(model, ROWS, pad_id=PAD)
    for module in model.modules():
        assert module.training == training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)
        assert (parameter.grad == 1).all()
        assert parameter.requires_grad


def test_dropout_is_off():
    model = llama(attention_dropout=0.5)
    wanted = held_out_losses(model, ROWS, pad_id=PAD)
    assert held_out_losses(model.train(), ROWS, pad_id=PAD) == wanted


def test_the_model_is_left_as_it_was_after_an_error():
    model = llama().train()
    bad = Rendered([VOCABULARY + 5] * 6, [ANSWER] * 6, [1] * 6, 1, "a", "p", "x:1", "d", False)
    with pytest.raises(IndexError):
        held_out_losses(model, [bad], pad_id=PAD)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_part_of_the_model_in_another_mode_stays_in_it():
    model = llama().train()
    model.model.layers[0].eval()  # such as a frozen part
    held_out_losses(model, ROWS, pad_id=PAD)
    assert not model.model.layers[0].training
    assert model.model.layers[1].training


def test_an_adapted_model_is_measured_like_its_base():
    peft = pytest.importorskip("peft")
    wanted = held_out_losses(llama(), ROWS, pad_id=PAD)
    settings = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(llama(), settings)  # fresh adapters change nothing
    found = held_out_losses(model, ROWS, pad_id=PAD)
    for name in ("loss", "tube_loss"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-5)


SHORT = Rendered(
    [5, 6, 2], [PROMPT, ANSWER, TEMPLATE], [IGNORED, 6, 2], 1, "a", "p", "x:1", "d", False
)


def test_rows_too_short_for_a_triplet_have_a_loss_and_no_tube_loss():
    model = llama()
    both = held_out_losses(model, [*ROWS, SHORT], pad_id=PAD)
    alone = held_out_losses(model, ROWS, pad_id=PAD)
    assert both["loss"]["num_examples"] == len(ROWS) + 1
    assert both["tube_loss"] == pytest.approx(alone["tube_loss"], rel=1e-5)
    assert both["loss"]["mean"] != alone["loss"]["mean"]


def test_when_no_row_has_a_triplet_the_loss_is_still_told():
    found = held_out_losses(llama(), [SHORT, SHORT], pad_id=PAD)
    assert math.isfinite(found["loss"]["mean"])
    assert found["tube_loss"]["num_examples"] == 0


def test_a_single_row_has_a_mean():
    found = held_out_losses(llama(), ROWS[:1], pad_id=PAD)
    assert math.isfinite(found["loss"]["mean"])
    assert found["loss"]["num_examples"] == found["tube_loss"]["num_examples"] == 1


STOPS = frozenset({3, 4})


@torch.no_grad()
def stopping(model, row, place) -> float:
    """ln p of the row's token at this place, of the row alone and in double precision."""
    logits = model(torch.tensor([row.input_ids])).logits[0, place - 1].double()
    return float(logits.log_softmax(-1)[row.input_ids[place]])


def turns(tail_ids, tail_roles, head=5) -> Rendered:
    """A row that ends with these tokens, none of its targets at a stop token."""
    ids = list(range(10, 10 + head)) + tail_ids
    roles = [TEMPLATE] + [PROMPT] * (head - 1) + tail_roles
    labels = [i if r == ANSWER else IGNORED for i, r in zip(ids, roles, strict=True)]
    return Rendered(ids, roles, labels, head, "a", "p", "x:1", "d", False)


A, T, P = ANSWER, TEMPLATE, PROMPT
#: Rows, and where the stop token behind the last answer stands.
STOPPING = [
    (turns([20, 21, 3], [A, A, T]), 7),
    (turns([20, 30, 31, 4, 30], [A, T, T, T, T], head=9), 12),  # not at once
    (turns([20, 4, 3], [A, T, T]), 6),  # the first of two
    (turns([20, 3, 21, 22, 4], [A, T, P, A, T], head=2), 6),  # behind the last answer
    (turns([20, 3], [A, A]), None),  # none at all: this one is the answer's own
    (turns([20, 30], [A, T]), None),
    (turns([20, 30, 21, 3], [A, T, P, T]), None),  # behind the next turn's text
    (turns([20], [A], head=12), None),
    (turns([3], [T]), None),  # no answer
]


def test_the_stop_token_behind_the_last_answer_is_measured_whether_trained_or_not():
    model = llama()
    rows = [row for row, _ in STOPPING] + ROWS
    wanted = [None if place is None else stopping(model, row, place) for row, place in STOPPING]
    for batch_size in (1, 3, None):
        found = measure_held_out(model, rows, pad_id=PAD, stop_ids=STOPS, batch_size=batch_size)
        assert found.stop_log_probabilities[: len(wanted)] == [
            None if value is None else pytest.approx(value, rel=1e-5) for value in wanted
        ]
        assert len(found.stop_log_probabilities) == len(rows)
    told = [value for value in wanted if value is not None]
    assert max(told) - min(told) > 0.1  # rows that are mixed up would be seen


def test_the_metrics_are_the_losses():
    model = llama()
    found = measure_held_out(model, ROWS, pad_id=PAD, stop_ids=STOPS)
    assert found.metrics == held_out_losses(model, ROWS, pad_id=PAD)
    assert held_out_losses(model, ROWS, pad_id=PAD).keys() == {"loss", "tube_loss"}


def test_without_stop_tokens_nothing_is_measured_of_them():
    found = measure_held_out(llama(), [row for row, _ in STOPPING], pad_id=PAD)
    assert found.stop_log_probabilities == [None] * len(STOPPING)


@pytest.mark.parametrize("train_stop", [True, False])
def test_rendered_rows_stop_behind_their_answer(train_stop):
    from semtube.models.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["red green", "blue"] * 3, 300)
    stop_ids = frozenset({tokenizer.eos_token_id})
    renderer = Renderer(tokenizer, stop_ids, train_stop=train_stop)
    messages = (Message("user", "red green"), Message("assistant", "blue"))
    row = renderer.render(Example("chat", messages, "x:1"))
    torch.manual_seed(2)
    settings = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(settings).eval()
    place = len(row.input_ids) - row.input_ids[::-1].index(tokenizer.eos_token_id) - 1
    found = measure_held_out(model, [row], pad_id=PAD, stop_ids=renderer.stop_ids)
    assert found.stop_log_probabilities == [pytest.approx(stopping(model, row, place), rel=1e-5)]
    assert (row.labels[place] == IGNORED) is not train_stop
