"""Greedy decoding: batches equal one prompt at a time, and a plain loop without a cache."""

import pytest
import torch

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


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_any_size_gives_what_a_plain_loop_gives_in_the_order_of_the_prompts(name):
    model = lively(MODELS[name])
    stops = common_stops(model)
    wanted = [by_hand(model, prompt, stops, 12) for prompt in PROMPTS]
    # The claim is worth something: texts differ, some stop and some do not.
    assert len({tuple(row.token_ids) for row in wanted}) > 6
    assert {row.stopped for row in wanted} == {True, False}
    for batch_size in (1, 5, 64):
        assert decode(model, stop_ids=stops, batch_size=batch_size) == wanted


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


def test_padding_is_masked_positive_control():
    # The same call without a mask gives other texts, so the equalities above can fail.
    model = lively(llama)
    wanted = decode(model)
    generate = model.generate
    model.generate = lambda input_ids, attention_mask: generate(
        input_ids=input_ids, attention_mask=torch.ones_like(attention_mask)
    )
    assert decode(model) != wanted


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


def test_a_batch_ends_when_its_last_text_has_met_any_of_the_stop_tokens():
    model = lively(llama)
    widths, generate = [], model.generate

    def spy(input_ids, attention_mask):
        written = generate(input_ids=input_ids, attention_mask=attention_mask)
        widths.append(written.shape[1] - input_ids.shape[1])
        return written

    model.generate = spy
    every = frozenset(range(1, VOCABULARY))
    rows = decode(model, stop_ids=every, pad_id=PAD)
    if all(row.stopped for row in rows):
        assert widths == [1 + max(len(row.token_ids) for row in rows)]
    assert any(row.stopped for row in rows)


def test_progress_counts_the_prompts_done():
    told = []
    decode(lively(llama), batch_size=5, on_progress=told.append)
    assert told == [5, 10, 12]


def test_no_prompts_give_no_texts():
    assert decode(lively(llama), []) == []


def adapted():
    peft = pytest.importorskip("peft")
    base = lively(llama)
    settings = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    return base, peft.get_peft_model(base, settings).eval()


def test_an_adapted_model_decodes_alike():
    base, model = adapted()  # fresh adapters change nothing
    assert decode(model) == [by_hand(base, prompt, {STOP}, 12) for prompt in PROMPTS]


def test_the_settings_inside_an_adapted_model_are_kept():
    base, model = adapted()
    settings = base.generation_config
    decode(model)
    assert base.generation_config is settings
    assert model.generation_config is settings


def test_a_limit_beyond_the_models_positions_is_no_crash():
    torch.manual_seed(5)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=16, **IDS
        )
    )
    rows = decode(model, [[3] * 12, [4, 5]], limit=10)
    assert len(rows[0].token_ids) <= 10
