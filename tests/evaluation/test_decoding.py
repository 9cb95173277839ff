"""Greedy decoding: batches equal one prompt at a time, and a plain loop without a cache."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.errors import UserError
from semtube.evaluation import decoding, greedy_loop
from semtube.evaluation.decoding import Decoded, decode_greedily

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")

VOCABULARY, PAD, STOP = 40, 0, 1
IDS = {"bos_token_id": 2, "eos_token_id": STOP, "pad_token_id": PAD}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def llama():
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, **IDS,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, **IDS
    )
    return transformers.GPT2LMHeadModel(config)


def mistral():
    """Sees five tokens back."""
    config = transformers.MistralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        sliding_window=5, **IDS,
    )  # fmt: skip
    return transformers.MistralForCausalLM(config)


def bloom():
    """Tells positions from the attention mask."""
    config = transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **IDS
    )
    return transformers.BloomForCausalLM(config)


def mamba():
    """Recurrent."""
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, **IDS
    )
    return transformers.MambaForCausalLM(config)


def rwkv():
    """Recurrent, with a cache of its own kind and no mask."""
    config = transformers.RwkvConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, **IDS
    )
    return transformers.RwkvForCausalLM(config)


def gpt1():
    """No cache, and positions that padding shifts."""
    config = transformers.OpenAIGPTConfig(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, **IDS
    )
    return transformers.OpenAIGPTLMHeadModel(config)


def lively(make):
    """Random weights large enough that the next token depends on the whole prompt."""
    torch.manual_seed(5)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)
    return model.eval()


MODELS = {"llama": llama, "gpt2": gpt2}
FAMILIES = {make.__name__: make for make in (llama, gpt2, mistral, bloom, mamba)}


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    lengths = [7, 1, 40, 2, 19, 1, 33, 5, 64, 3, 3, 12]
    return [torch.randint(2, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


PROMPTS = prompts()


@torch.no_grad()
def by_hand(model, prompt: list[int], stop_ids: set[int], limit: int) -> Decoded:
    """The whole text through the model for each token: no batch, no padding, no cache."""
    written: list[int] = []
    while len(written) < limit:
        logits = model(torch.tensor([prompt + written]), use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token in stop_ids:
            return Decoded(written, True)
        written.append(token)
    return Decoded(written, False)


def decode(model, chosen=PROMPTS, stop_ids=frozenset({STOP}), pad_id=PAD, limit=12, **options):
    return decode_greedily(
        model, chosen, stop_ids=stop_ids, pad_id=pad_id, max_new_tokens=limit, **options
    )


def common_stops(model) -> frozenset[int]:
    """Two tokens that this model writes often, as stop tokens."""
    written = [
        token for row in decode(model, stop_ids=frozenset({STOP})) for token in row.token_ids
    ]
    counted = sorted(set(written), key=lambda token: (-written.count(token), token))
    return frozenset(counted[:2])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_any_size_gives_what_a_plain_loop_gives_in_the_order_of_the_prompts(name):
    model = lively(FAMILIES[name])
    stops = common_stops(model)
    wanted = [by_hand(model, prompt, stops, 8) for prompt in PROMPTS]
    # The claim is worth something: texts differ, some stop and some do not.
    assert len({tuple(row.token_ids) for row in wanted}) > 6
    assert {row.stopped for row in wanted} == {True, False}
    for batch_size in (1, 5, None):
        assert decode(model, stop_ids=stops, batch_size=batch_size, limit=8) == wanted


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_the_prompts_is_the_order_of_the_results(name):
    model = lively(MODELS[name])
    forward = decode(model, batch_size=5)
    assert decode(model, PROMPTS[::-1], batch_size=5) == forward[::-1]


@pytest.mark.parametrize("name", MODELS)
def test_every_stop_token_ends_a_text_and_none_stays_in_it(name):
    model = lively(MODELS[name])
    free = decode(model, stop_ids=frozenset({STOP}))
    two = common_stops(model)
    stops = two | {STOP}
    ends = set()
    for row, unstopped in zip(decode(model, stop_ids=stops), free, strict=True):
        assert not stops & set(row.token_ids)
        assert row.token_ids == unstopped.token_ids[: len(row.token_ids)]
        if row.stopped and len(row.token_ids) < len(unstopped.token_ids):
            ends.add(unstopped.token_ids[len(row.token_ids)])
    assert ends == two  # each of the two ended a text


@pytest.mark.parametrize("name", MODELS)
def test_a_text_without_a_stop_token_ends_at_the_limit_and_has_not_stopped(name):
    model = lively(MODELS[name])
    for limit in (1, 7):
        rows = decode(model, stop_ids=frozenset({STOP}), limit=limit)
        assert all(len(row.token_ids) == limit or row.stopped for row in rows)
        assert any(not row.stopped for row in rows)


@pytest.mark.parametrize("name", MODELS)
def test_a_stop_token_at_the_limit_still_stops(name):
    model = lively(MODELS[name])
    (free,) = decode(model, PROMPTS[:1])
    last = next(i for i in range(11, 0, -1) if free.token_ids[i] not in free.token_ids[:i])
    stop = frozenset({free.token_ids[last]})
    (row,) = decode(model, PROMPTS[:1], stop_ids=stop, limit=last + 1)
    assert row == Decoded(free.token_ids[:last], True)
    (row,) = decode(model, PROMPTS[:1], stop_ids=stop, limit=last)
    assert row == Decoded(free.token_ids[:last], False)


@pytest.mark.parametrize("name", MODELS)
def test_the_padding_id_does_not_matter(name):
    model = lively(MODELS[name])
    stops = common_stops(model)
    wanted = decode(model, stop_ids=stops)
    frequent = PROMPTS[8][0]  # a token of the prompts
    for pad_id in (STOP, max(stops), frequent, VOCABULARY - 1):
        assert decode(model, stop_ids=stops, pad_id=pad_id) == wanted


def spy_on_batches(monkeypatch, change=lambda ids, mask: (ids, mask)):
    """A list of the padded batches that are decoded, and a way to change them."""
    seen, pad_left = [], greedy_loop.pad_left

    def spy(rows, pad_id, device):
        seen.append(rows)
        return change(*pad_left(rows, pad_id, device))

    monkeypatch.setattr(greedy_loop, "pad_left", spy)
    return seen


def test_padding_is_masked_positive_control(monkeypatch):
    # The same call without a mask gives other texts, so the equalities above can fail.
    model = lively(llama)
    wanted = decode(model)
    spy_on_batches(monkeypatch, lambda ids, mask: (ids, torch.ones_like(mask)))
    assert decode(model) != wanted


def test_a_batch_stays_within_its_tokens(monkeypatch):
    model = lively(llama)
    wanted = decode(model)
    seen = spy_on_batches(monkeypatch)
    assert decode(model, batch_tokens=120) == wanted
    assert sorted(map(len, PROMPTS)) == sorted(len(row) for batch in seen for row in batch)
    sizes = [len(batch) * (max(map(len, batch)) + 12) for batch in seen]
    assert all(size <= 120 for size in sizes)
    assert max(map(len, seen)) > 3
    assert [len(batch[0]) for batch in seen] == sorted((len(b[0]) for b in seen), reverse=True)


STRANGE = {
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "do_sample": True,
    "temperature": 9.0,
    "max_length": 3,
    "min_new_tokens": 9,
    "num_beams": 3,
    "suppress_tokens": [5, 6, 7, 8, 9],
    "forced_eos_token_id": 9,
    "eos_token_id": [11, 12],
    "use_cache": False,
}


@pytest.mark.parametrize("setting", STRANGE)
@pytest.mark.parametrize("name", MODELS)
def test_the_models_own_generation_settings_are_not_used_and_are_kept(name, setting):
    model = lively(MODELS[name])
    wanted = decode(model, PROMPTS[:4])
    settings = transformers.GenerationConfig(**{setting: STRANGE[setting]})
    before = settings.to_dict()
    model.generation_config = settings
    assert decode(model, PROMPTS[:4]) == wanted
    assert model.generation_config is settings
    assert settings.to_dict() == before


def test_old_generation_settings_in_the_models_config_are_not_used():
    model = lively(llama)
    wanted = decode(model, PROMPTS[:4])
    model.config.eos_token_id = 11
    model.config.use_cache = False
    assert decode(model, PROMPTS[:4]) == wanted


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_as_it_was(training):
    torch.manual_seed(5)
    model = lively(gpt2)
    wanted = decode(model, PROMPTS[:4])
    assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())
    model.train(training)
    assert decode(model, PROMPTS[:4]) == wanted
    assert all(module.training == training for module in model.modules())


def test_a_part_of_the_model_in_another_mode_stays_in_it():
    model = lively(gpt2).train()
    model.transformer.h[0].eval()  # such as a frozen part
    decode(model, PROMPTS[:2])
    assert not model.transformer.h[0].training
    assert model.transformer.h[1].training


def test_settings_and_mode_are_restored_after_an_error():
    model = lively(llama).train()
    settings = model.generation_config

    def broken(num_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(model, on_progress=broken)
    assert model.generation_config is settings
    assert model.training


def test_no_gradient_is_made_or_touched_and_no_generator_is_used():
    model = lively(llama)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.manual_seed(8)
    before = torch.get_rng_state()
    decode(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all((parameter.grad == 1).all() for parameter in model.parameters())


def spy_on_passes(model, name="input_ids"):
    """Shapes (rows, tokens) of what the decoder reads."""
    shapes = []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs[name].shape)), with_kwargs=True
    )
    return shapes


NUM_PROBES = 2  # short passes that find out whether padding is masked


def test_rows_that_are_done_leave_the_batch():
    model = lively(llama)
    stops = common_stops(model)
    ends = [
        len(row.token_ids) if row.stopped else 12 for row in decode(model, stop_ids=stops, limit=12)
    ]
    shapes = spy_on_passes(model)
    decode(model, stop_ids=stops, limit=12)
    sizes = [rows for rows, _ in shapes[NUM_PROBES:]]
    assert len(sizes) == max(ends) + any(end < 12 for end in ends if end == max(ends))
    for step, size in enumerate(sizes):
        unfinished = sum(end >= step for end in ends)
        # Those that are done stay while they are fewer than an eighth.
        assert unfinished <= size < max(unfinished / (1 - 1 / 8), unfinished + 1)
    assert len(set(sizes)) > 3


def test_a_batch_ends_when_its_last_text_has_met_any_of_the_stop_tokens():
    model = lively(llama)
    shapes = spy_on_passes(model)
    rows = decode(model, stop_ids=frozenset(range(VOCABULARY)))
    assert rows == [Decoded([], True)] * len(PROMPTS)
    assert [rows for rows, _ in shapes[NUM_PROBES:]] == [len(PROMPTS)]


def alike(number: int) -> list[list[int]]:
    """Prompts that begin with the same tokens."""
    return [list(range(2, 2 + number)) + prompt for prompt in PROMPTS]


@pytest.mark.parametrize("number", [1, 4, 30])
@pytest.mark.parametrize("name", MODELS)
def test_what_all_prompts_begin_with_changes_nothing(name, number):
    model = lively(FAMILIES[name])
    prompts = alike(number)
    wanted = [by_hand(model, prompt, {STOP}, 5) for prompt in prompts]
    for batch_size in (1, 3, None):
        assert decode(model, prompts, limit=5, batch_size=batch_size) == wanted


def test_what_all_prompts_begin_with_is_read_once():
    model = lively(llama)
    shapes = spy_on_passes(model)
    decode(model, alike(30), limit=1, batch_size=1)
    read = [tokens for _, tokens in shapes[NUM_PROBES:]]
    assert read == [30, *sorted(map(len, PROMPTS), reverse=True)]
    shapes.clear()
    decode(model, [[5, 6, 7]] * 2, limit=1)  # one token must be left
    assert shapes[NUM_PROBES:] == [(1, 2), (2, 1)]
    shapes.clear()
    decode(model, [[5, 6, 7]], limit=1)
    assert shapes[NUM_PROBES:] == [(1, 3)]


PROMPT = st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=20)
LLAMA = lively(llama)


@torch.no_grad()
def generated(model, prompt, stop_ids, limit) -> Decoded:
    """transformers' own greedy decoding of one prompt."""
    ids = torch.tensor([prompt])
    with decoding.generating_with(
        model,
        transformers.GenerationConfig(
            do_sample=False, max_new_tokens=limit, eos_token_id=sorted(stop_ids), pad_token_id=PAD
        ),
    ):
        row = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))[0].tolist()
    row = row[len(prompt) :]
    end = next((k for k, token in enumerate(row) if token in stop_ids), None)
    return Decoded(row[:end], end is not None)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(PROMPT, max_size=8),
    st.lists(st.integers(2, VOCABULARY - 1), max_size=5),
    st.frozensets(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6),
    st.integers(1, 300),
    st.sampled_from(["dynamic", "static", "none"]),
)
def test_any_prompts_are_answered_as_one_at_a_time(prompts, start, stop_ids, budget, cache):
    prompts = [start + prompt for prompt in prompts]
    found = decode(LLAMA, prompts, stop_ids, limit=5, batch_tokens=budget, cache=cache)
    assert found == [generated(LLAMA, prompt, stop_ids, 5) for prompt in prompts]


def twins():
    """Its odd tokens are as likely as the even ones below them, but for a hair."""
    model = lively(llama)
    with torch.no_grad():
        head = model.lm_head.weight
        head[1::2] = head[0::2] * (1 - 1e-6)
    return model


def disturb(model):
    """In a batch the odd token wins, as rounding could have it."""
    odd = torch.arange(VOCABULARY) % 2 * 2e-5

    def hook(module, args, output):
        if output.shape[0] > 1:
            return output + odd * output.abs().amax(-1, keepdim=True)
        return output

    return model.lm_head.register_forward_hook(hook)


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_a_choice_that_rounding_could_turn_is_made_alone(monkeypatch, cache):
    model = twins()
    wanted = [by_hand(model, prompt, {STOP}, 5) for prompt in PROMPTS]
    disturb(model)
    assert decode(model, limit=5, cache=cache) == wanted
    monkeypatch.setattr(greedy_loop, "CLOSE", 0.0)
    assert decode(model, limit=5, cache=cache) != wanted  # positive control


def test_a_choice_is_close_by_the_size_of_the_logits():
    close = greedy_loop.close_choices
    assert close(torch.tensor([[1.0, 0.9, 0.0], [1.0, 0.99995, 0.0]])) == [False, True]
    # Where summands are large, so is rounding.
    assert close(torch.tensor([[1.0, 0.9, -2000.0], [1.0, 1.0, 1.0]])) == [True, True]
    assert close(torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)) == [False]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_batches_stand_in_half_precision(monkeypatch, cache):
    seen = spy_on_batches(monkeypatch)
    rows = decode(lively(llama).to(torch.bfloat16), limit=5, cache=cache)
    assert [len(batch) for batch in seen] == [len(PROMPTS)]
    assert len({tuple(row.token_ids) for row in rows}) > 6


@pytest.mark.parametrize("cache", ["static", "none"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_every_cache_gives_the_same(name, cache):
    model = lively(FAMILIES[name])
    stops = common_stops(model)
    wanted = [by_hand(model, prompt, stops, 6) for prompt in PROMPTS]
    assert decode(model, stop_ids=stops, limit=6, cache=cache) == wanted


def test_a_cache_that_serves_no_batches_is_not_used_for_them():
    model = lively(rwkv)
    with pytest.raises(UserError, match=r"RwkvForCausalLM keeps .* cache 'none' or batch_size 1"):
        decode(model)
    wanted = [by_hand(model, prompt, {STOP}, 5) for prompt in PROMPTS]
    assert decode(model, limit=5, batch_size=1) == wanted
    assert decode(model, limit=5, cache="none") == wanted


def test_a_model_without_a_cache_says_so_and_decodes_without():
    model = lively(gpt1)
    with pytest.raises(UserError, match=r"OpenAIGPTLMHeadModel keeps nothing .* cache 'none'"):
        decode(model)
    wanted = [by_hand(model, prompt, {STOP}, 5) for prompt in PROMPTS]
    assert decode(model, limit=5, cache="none") == wanted


def test_progress_counts_the_prompts_done():
    told = []
    decode(lively(llama), batch_size=5, on_progress=told.append)
    assert told == [5, 10, 12]


def test_no_prompts_give_no_texts():
    assert decode(lively(llama), []) == []


def adapted(**options):
    peft = pytest.importorskip("peft")
    base = lively(llama)
    torch.manual_seed(4)
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    return base, peft.get_peft_model(copy.deepcopy(base), lora).eval()


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_adapters_are_read_with_the_model(cache):
    base, model = adapted(init_lora_weights=False)
    prompts = alike(3)
    wanted = [by_hand(model, prompt, {STOP}, 5) for prompt in prompts]
    assert decode(model, prompts, limit=5, cache=cache) == wanted
    assert decode(base, prompts, limit=5) != wanted  # the adapters do something


def test_prompt_tuning_is_read_with_the_model():
    peft = pytest.importorskip("peft")
    torch.manual_seed(4)
    tuning = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    model = peft.get_peft_model(lively(llama), tuning).eval()
    prompts = alike(3)
    wanted = [by_hand(model, prompt, {STOP}, 5) for prompt in prompts]
    with pytest.warns(UserWarning, match="Position ids are not supported"):
        assert decode(model, prompts, limit=5) == wanted


def test_the_settings_inside_an_adapted_model_are_kept():
    _, model = adapted()
    base = model.get_base_model()
    settings = base.generation_config
    decode(model)
    assert base.generation_config is settings
    assert model.generation_config is settings


def short_context():
    torch.manual_seed(5)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=16, **IDS
    )
    return transformers.GPT2LMHeadModel(config)


def test_a_long_prompt_has_the_room_that_is_left_and_cuts_no_other():
    model = short_context()
    prompts = [[3] * 12, [4, 5], [3] * 11 + [6], [5]]
    rows = decode(model, prompts, limit=10)
    assert [len(row.token_ids) for row in rows if not row.stopped] == [
        limit for row, limit in zip(rows, (4, 10, 4, 10), strict=True) if not row.stopped
    ]
    for prompt, row, limit in zip(prompts, rows, (4, 10, 4, 10), strict=True):
        assert [row] == decode(model, [prompt], limit=limit)


def test_prompts_that_leave_no_room_are_refused():
    with pytest.raises(UserError, match="16 tokens and the model takes 16"):
        decode(short_context(), [[3] * 16, [4, 5]], limit=10)


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        decode(LLAMA, [[3], []])
