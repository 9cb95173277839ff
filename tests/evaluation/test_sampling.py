"""Sampled answers: their distribution, and that neither batch nor order nor generator matters."""

import math

import pytest
import torch
from scipy.stats import chisquare

from semtube.errors import UserError
from semtube.evaluation import sampling
from semtube.evaluation.decoding import Decoded, decode_greedily
from semtube.evaluation.sampling import sample_answers
from semtube.models.loading import load_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")

VOCABULARY, PAD, STOP = 12, 0, 1
IDS = {"bos_token_id": 2, "eos_token_id": STOP, "pad_token_id": PAD}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def preset():
    return load_model("tiny-0.3m", texts=["a tube through a cone"] * 3, seed=3).model


def llama():
    """Reads every token alike, so each step of each text has one distribution."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        tie_word_embeddings=False, **IDS,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.randn(16).expand(VOCABULARY, 16))
        model.lm_head.weight.normal_(0, 0.25)
    return model.eval()


def rwkv():
    """Recurrent, with a cache of its own kind and no mask."""
    torch.manual_seed(0)
    config = transformers.RwkvConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, attention_hidden_size=16, **IDS
    )
    return transformers.RwkvForCausalLM(config).eval()


def prompts(number: int, vocabulary: int, most: int = 9) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, most, (number,), generator=generator).tolist()
    return [torch.randint(2, vocabulary, (n,), generator=generator).tolist() for n in lengths]


def sample(model, chosen, stop_ids=frozenset({STOP}), limit=8, **options):
    settings = {"temperature": 1.0, "seed": 0, **options}
    return sample_answers(
        model, chosen, stop_ids=stop_ids, pad_id=PAD, max_new_tokens=limit, **settings
    )


@torch.no_grad()
def next_probabilities(model, temperature: float):
    logits = model(torch.tensor([[5, 6, 7]])).logits[0, -1].double()
    return (logits / temperature).softmax(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_come_as_often_as_the_model_says(temperature):
    model = llama()
    chosen = torch.cartesian_prod(*[torch.arange(VOCABULARY)] * 2).tolist()
    answers = sample(
        model, chosen, frozenset(), limit=40, temperature=temperature, batch_tokens=100_000
    )
    drawn = torch.tensor([answer.token_ids for answer in answers])
    assert drawn.shape == (len(chosen), 40)
    probability = next_probabilities(model, temperature)
    number = drawn.numel()
    count = torch.bincount(drawn.flatten(), minlength=VOCABULARY)
    assert chisquare(count, number * probability).pvalue > 1e-3
    # The same draws tell another temperature from this one.
    other = next_probabilities(model, 1.3 * temperature)
    assert chisquare(count, number * other).pvalue < 1e-6
    # Steps know nothing of each other, nor do prompts.
    for first, second in ((drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:])):
        pair = (first * VOCABULARY + second).flatten()
        joint = torch.outer(probability, probability).flatten()
        many = joint * len(pair) > 5  # chi-square's own rule; the rest is one cell
        count = torch.bincount(pair, minlength=VOCABULARY**2)
        found = torch.cat([count[many], count[~many].sum()[None]])
        wanted = torch.cat([joint[many], joint[~many].sum()[None]]) * len(pair)
        kept = wanted > 0
        assert chisquare(found[kept], wanted[kept]).pvalue > 1e-3


def test_neither_batch_nor_order_nor_company_matters(preset):
    chosen = prompts(24, preset.config.vocab_size)
    together = sample(preset, chosen)
    assert len({tuple(answer.token_ids) for answer in together}) > 20
    assert sample(preset, chosen, batch_tokens=1) == together
    assert sample(preset, chosen, batch_tokens=60) == together
    assert sample(preset, chosen[::-1]) == together[::-1]
    assert sample(preset, chosen[5:6]) == together[5:6]
    assert sample(preset, [chosen[0]] * 3) == together[:1] * 3
    assert sample(preset, chosen, seed=1) != together
    # A longer limit goes on where a shorter one ends.
    longer = sample(preset, chosen, limit=10)
    assert [answer.token_ids[:8] for answer in longer] == [answer.token_ids for answer in together]


def test_choices_that_rounding_could_turn_are_made_alone(preset, monkeypatch):
    chosen = prompts(6, preset.config.vocab_size)
    together = sample(preset, chosen)
    sizes = []
    inner = sampling._sample

    def spy(loop, rows, *rest):
        sizes.append(len(rows))
        return inner(loop, rows, *rest)

    monkeypatch.setattr(sampling, "_sample", spy)
    monkeypatch.setattr(sampling, "close_choices", lambda noisy: [True] * len(noisy))
    assert sample(preset, chosen) == together
    assert sizes == [6, 1, 1, 1, 1, 1, 1]


def test_a_stop_token_ends_an_answer():
    model = llama()
    chosen = prompts(40, VOCABULARY)
    free = sample(model, chosen, frozenset(), limit=12)
    stops = frozenset({STOP, 4})
    assert not any(answer.stopped for answer in free)
    for answer, whole in zip(sample(model, chosen, stops, limit=12), free, strict=True):
        end = next((k for k, token in enumerate(whole.token_ids) if token in stops), None)
        assert answer == Decoded(whole.token_ids[:end], end is not None)


def test_a_low_temperature_is_greedy(preset):
    chosen = prompts(12, preset.config.vocab_size)
    greedy = decode_greedily(
        preset, chosen, stop_ids=frozenset({STOP}), pad_id=PAD, max_new_tokens=8
    )
    assert sample(preset, chosen, temperature=1e-6) == greedy
    assert sample(preset, chosen, temperature=1.0) != greedy


def test_the_model_and_the_global_generator_stay_as_they_are(preset):
    chosen = prompts(6, preset.config.vocab_size)
    wanted = sample(preset, chosen)
    settings = transformers.GenerationConfig(
        do_sample=True, temperature=0.1, top_k=1, repetition_penalty=9.0
    )
    before, preset.generation_config = preset.generation_config, settings
    preset.train()
    state = torch.get_rng_state()
    try:
        assert sample(preset, chosen) == wanted
        assert preset.generation_config is settings
        assert preset.training
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(123)
        assert sample(preset, chosen) == wanted
    finally:
        preset.generation_config = before
        preset.eval()


def test_a_model_without_a_usable_cache_reads_the_whole_text():
    model = rwkv()
    chosen = prompts(10, VOCABULARY, most=4)
    assert not sampling._keeps_cache(model, chosen[0])
    alone = [sample(model, [prompt])[0] for prompt in chosen]
    assert sample(model, chosen) == alone


def test_no_answer_outgrows_the_context():
    model = llama()
    full, short = [3] * 60, [3, 4]
    answers = sample(model, [full, short], frozenset(), limit=10)
    assert [len(answer.token_ids) for answer in answers] == [4, 10]
    with pytest.raises(UserError, match="the model takes 64"):
        sample(model, [[3] * 64])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperatures_that_are_none(temperature):
    with pytest.raises(ValueError, match="wanted a number above 0"):
        sample(None, [[3]], temperature=temperature)


def test_nothing_to_do_and_an_empty_prompt():
    assert sample(None, []) == []
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        sample(llama(), [[3], []])
