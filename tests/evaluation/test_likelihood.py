"""Likelihood of options: what plain scoring of every text alone gives, for less work."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.errors import UserError
from semtube.evaluation import batching, likelihood
from semtube.evaluation.likelihood import option_log_probabilities

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")

VOCABULARY = 40
IDS = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def llama(**options):
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, intermediate_size=48, num_key_value_heads=2, initializer_range=0.3,
        max_position_embeddings=64, **SIZES, **IDS, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64,
        initializer_range=0.3, **IDS,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def mistral():
    """Sees five tokens back."""
    config = transformers.MistralConfig(
        vocab_size=VOCABULARY, intermediate_size=48, num_key_value_heads=2, initializer_range=0.3,
        max_position_embeddings=64, sliding_window=5, **SIZES, **IDS,
    )  # fmt: skip
    return transformers.MistralForCausalLM(config)


def bloom():
    """Tells positions from the attention mask."""
    config = transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, **IDS
    )
    return transformers.BloomForCausalLM(config)


def mamba():
    """Recurrent."""
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, initializer_range=0.3, **IDS
    )
    return transformers.MambaForCausalLM(config)


def lfm2():
    """Half recurrent, half attention."""
    config = transformers.Lfm2Config(
        vocab_size=VOCABULARY, intermediate_size=48, num_key_value_heads=2, initializer_range=0.3,
        max_position_embeddings=64, layer_types=["conv", "full_attention"], **SIZES, **IDS,
    )  # fmt: skip
    return transformers.Lfm2ForCausalLM(config)


def gpt1():
    """No cache, and positions that padding shifts."""
    config = transformers.OpenAIGPTConfig(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64,
        initializer_range=0.3, **IDS,
    )  # fmt: skip
    return transformers.OpenAIGPTLMHeadModel(config)


def built(make):
    torch.manual_seed(5)
    return make().eval()


MODELS = {make.__name__: make for make in (llama, gpt2, mistral, bloom, mamba, lfm2, gpt1)}
PROMPTS = [[5, 6, 7, 8], [9], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21]]
OPTIONS = [
    [[11, 12, 13], [14], [11, 12, 13, 15, 16, 17]],
    [[30], [31], [32], [33]],
    [[2, 3], [39, 38]],
    [[7, 7, 7, 7, 7]],
]


@torch.no_grad()
def by_hand(model, prompt, option) -> float:
    """One text through the model, in double precision behind the logits."""
    logits = model(torch.tensor([prompt + option]), use_cache=False).logits[0].double()
    logp = logits.log_softmax(-1)
    logp = logp[len(logp) - len(option) - 1 :]  # virtual tokens may stand before the text
    return sum(float(logp[k, token]) for k, token in enumerate(option))


def oracle(model, prompts, options):
    return [
        [by_hand(model, prompt, option) for option in row]
        for prompt, row in zip(prompts, options, strict=True)
    ]


def assert_alike(found, wanted):
    assert [len(row) for row in found] == [len(row) for row in wanted]
    for row, other in zip(found, wanted, strict=True):
        # 1e-5 of a sum of some ten logarithms in float32; the options here differ by whole nats.
        assert row == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_every_text_alone_in_batches_of_any_size(name):
    model = built(MODELS[name])
    wanted = oracle(model, PROMPTS, OPTIONS)
    values = [value for row in wanted for value in row]
    assert max(values) - min(values) > 2  # the claim is worth something
    assert_alike(option_log_probabilities(model, PROMPTS, OPTIONS), wanted)
    for budget, size in ((1, None), (40, None), (100, None), (10_000, 2)):
        found = option_log_probabilities(
            model, PROMPTS, OPTIONS, batch_tokens=budget, batch_size=size
        )
        assert_alike(found, wanted)
    apart = option_log_probabilities(model, PROMPTS, OPTIONS, share_prompt=False)
    assert_alike(apart, wanted)


TOKENS = st.integers(0, VOCABULARY - 1)
ROWS = st.lists(
    st.tuples(
        st.lists(TOKENS, min_size=1, max_size=20),
        st.lists(st.lists(TOKENS, min_size=1, max_size=8), max_size=5),
    ),
    max_size=6,
)
LLAMA = built(llama)


@settings(max_examples=30, deadline=None)
@given(ROWS, st.integers(1, 300), st.booleans())
def test_equal_to_every_text_alone_for_any_rows(rows, budget, shared):
    prompts, options = [prompt for prompt, _ in rows], [row for _, row in rows]
    told = []
    found = option_log_probabilities(
        LLAMA, prompts, options, batch_tokens=budget, share_prompt=shared, on_progress=told.append
    )
    assert_alike(found, oracle(LLAMA, prompts, options))
    assert told == sorted(told)
    assert (told[-1] if told else 0) == (len(rows) if any(options) else 0)


def test_options_of_one_token_that_are_all_there_is_have_probabilities_that_sum_to_one():
    (row,) = option_log_probabilities(LLAMA, [[4, 5]], [[[token] for token in range(VOCABULARY)]])
    assert sum(map(math.exp, row)) == pytest.approx(1, rel=1e-5)


def test_the_order_of_the_rows_does_not_matter():
    forward = option_log_probabilities(LLAMA, PROMPTS, OPTIONS)
    assert_alike(option_log_probabilities(LLAMA, PROMPTS[::-1], OPTIONS[::-1])[::-1], forward)


def count_tokens(model):
    """A list to which every forward pass adds the number of tokens it reads."""
    seen = []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return seen


def test_the_prompt_is_read_once_for_all_its_options():
    model = built(llama)
    seen = count_tokens(model)
    prompt = list(range(2, 32))
    option_log_probabilities(model, [prompt], [[[3, 4], [5, 6], [7, 8], [9, 10]]])
    num_probed = 1 + 8 + 13  # can it share, does it mask padding
    assert sum(seen) == num_probed + 30 + 4
    seen.clear()
    option_log_probabilities(model, [prompt], [[[3], [5], [7], [9]]])
    assert sum(seen) == num_probed + 30


@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_is_shared_where_keys_and_values_are_kept_and_padding_is_masked(name):
    shares = name in ("llama", "gpt2", "mistral", "bloom")
    assert likelihood._can_share(built(MODELS[name]), PROMPTS[0]) is shares


def test_logits_of_more_tokens_than_fit_are_made_in_turn(monkeypatch):
    model = built(llama)
    options = [[[7] * 10, [8] * 10]] * 6
    largest = []
    model.lm_head.register_forward_hook(lambda module, args, output: largest.append(output.numel()))
    wanted = option_log_probabilities(model, [[5, 6]] * 6, options)
    assert max(largest) == 12 * 9 * VOCABULARY
    largest.clear()
    monkeypatch.setattr(batching, "MAX_LOGITS", 50 * VOCABULARY)
    assert_alike(option_log_probabilities(model, [[5, 6]] * 6, options), wanted)
    assert max(largest) <= 50 * VOCABULARY


def test_adapters_are_read_with_the_model():
    peft = pytest.importorskip("peft")
    torch.manual_seed(3)
    lora = peft.LoraConfig(
        r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    model = peft.get_peft_model(built(llama), lora).eval()
    wanted = oracle(model, PROMPTS, OPTIONS)
    assert_alike(option_log_probabilities(model, PROMPTS, OPTIONS), wanted)
    base = oracle(built(llama), PROMPTS, OPTIONS)
    assert abs(base[0][0] - wanted[0][0]) > 0.1  # the adapters do something


def test_prompt_tuning_is_read_with_the_model():
    peft = pytest.importorskip("peft")
    torch.manual_seed(3)
    tuning = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    model = peft.get_peft_model(built(llama), tuning).eval()
    assert_alike(option_log_probabilities(model, PROMPTS, OPTIONS), oracle(model, PROMPTS, OPTIONS))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = llama(attention_dropout=0.5).train(training)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = torch.get_rng_state()
    first = option_log_probabilities(model, PROMPTS, OPTIONS)
    assert option_log_probabilities(model, PROMPTS, OPTIONS) == first  # no dropout
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training == training for module in model.modules())
    assert all((parameter.grad == 1).all() for parameter in model.parameters())


def test_rows_without_options_have_no_numbers():
    assert option_log_probabilities(LLAMA, [], []) == []
    assert option_log_probabilities(LLAMA, [[3]], [[]]) == [[]]
    found = option_log_probabilities(LLAMA, [[3], [4]], [[], [[5]]])
    assert_alike(found, oracle(LLAMA, [[3], [4]], [[], [[5]]]))


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="option 1 of prompt 0 is empty"):
        option_log_probabilities(LLAMA, [[3]], [[[4], []]])
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        option_log_probabilities(LLAMA, [[3], []], [[[4]], [[4]]])
    with pytest.raises(ValueError, match="2 prompts but options for 1"):
        option_log_probabilities(LLAMA, [[3], [3]], [[[4]]])
    with pytest.raises(ValueError, match="batch_tokens is 0"):
        option_log_probabilities(LLAMA, [[3]], [[[4]]], batch_tokens=0)
    with pytest.raises(UserError, match="65 tokens and the model takes 64"):
        option_log_probabilities(LLAMA, [[3] * 60], [[[4] * 2, [4] * 5]])
    whole = option_log_probabilities(LLAMA, [[3] * 60], [[[4] * 4]])
    assert_alike(whole, oracle(LLAMA, [[3] * 60], [[[4] * 4]]))
