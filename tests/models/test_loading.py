"""Loading by name: presets, folders, GGUF files; no network is touched."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import torch

from semtube.config import LoraOptions
from semtube.errors import UserError
from semtube.models.presets import PRESETS, build_preset

transformers = pytest.importorskip("transformers")
from semtube.models import loading  # noqa: E402
from semtube.models.adapters import add_lora  # noqa: E402
from semtube.models.loading import load_model  # noqa: E402
from semtube.models.tokenizer import train_tokenizer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")

TEXTS = ["lines with words with a vowel and a lower-case letter"] * 3
IDS = torch.tensor([[1, 10, 20, 30, 40, 2]])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """One thread, and no network: who asks for an address or a connection fails the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The variable is read once, when the library is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    touched = []

    def refuse(*args, **kwargs):
        touched.append(args)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    assert not touched


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A preset saved as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    loaded = load_model("tiny-0.3m", texts=TEXTS, seed=3)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def copy_of(folder: Path, into: Path) -> Path:
    copy = into / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def weights(model) -> list[torch.Tensor]:
    return [value.detach() for value in model.state_dict().values()]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_of_its_name_within_a_tenth(name):
    with torch.device("meta"):
        model = build_preset(name, PRESETS[name].vocabulary_size, seed=0)
    wanted = float(name.removeprefix("tiny-").removesuffix("m")) * 1e6
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert num_parameters == pytest.approx(wanted, rel=0.1)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("name", ["tiny-0.3m", "tiny-2m"])
def test_a_preset_is_a_function_of_its_seed(name):
    torch.manual_seed(1)
    one = load_model(name, texts=TEXTS, seed=5).model
    torch.manual_seed(2)
    torch.rand(7)
    assert same(one, load_model(name, texts=TEXTS, seed=5).model)
    assert not same(one, load_model(name, texts=TEXTS, seed=6).model)


def test_a_preset_leaves_the_global_generator_as_it_was():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    load_model("tiny-0.3m", texts=TEXTS, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_preset_is_float32_and_its_ids_are_its_tokenizers():
    loaded = load_model("tiny-0.3m", texts=TEXTS)
    model, tokenizer = loaded.model, loaded.tokenizer
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.vocab_size == len(tokenizer) <= PRESETS["tiny-0.3m"].vocabulary_size
    assert loaded.stop_ids == {tokenizer.eos_token_id} == {model.config.eos_token_id}
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.bos_token_id == tokenizer.bos_token_id
    assert tokenizer.is_fast
    assert tokenizer.chat_template


def test_a_trained_tokenizer_is_a_function_of_its_texts_and_writes_any_text():
    one, other = (train_tokenizer(TEXTS, 300) for _ in range(2))
    assert one.get_vocab() == other.get_vocab()
    assert train_tokenizer(["quite another text"] * 3, 300).get_vocab() != one.get_vocab()
    text = "naïve 東京 🙂\n\t\x00 (\\b)* . , ' n't"
    for tokenizer in (one, train_tokenizer([], 300)):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
        assert len(tokenizer) <= 300


def test_a_folder_gives_back_the_weights_and_the_tokenizer(saved):
    first = load_model("tiny-0.3m", texts=TEXTS, seed=3)
    for name in (str(saved), os.path.relpath(saved)):
        loaded = load_model(name, seed=99)
        assert same(loaded.model, first.model)
        assert torch.equal(loaded.model(IDS).logits, first.model(IDS).logits)
        assert loaded.tokenizer.get_vocab() == first.tokenizer.get_vocab()
        assert loaded.tokenizer.chat_template == first.tokenizer.chat_template
        assert loaded.stop_ids == first.stop_ids


def test_a_folder_of_half_precision_is_loaded_as_float32(saved, tmp_path):
    loaded = load_model(str(saved))
    loaded.model.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    loaded.tokenizer.save_pretrained(tmp_path / "half")
    again = load_model(str(tmp_path / "half")).model
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


def test_every_stop_token_of_the_models_settings_is_known(saved, tmp_path):
    loaded = load_model(str(saved))
    loaded.model.generation_config.eos_token_id = [5, 7]
    loaded.model.save_pretrained(tmp_path / "many")
    loaded.tokenizer.save_pretrained(tmp_path / "many")
    assert load_model(str(tmp_path / "many")).stop_ids == {5, 7, loaded.tokenizer.eos_token_id}


def test_a_tokenizer_without_padding_gets_an_id_to_pad_with(saved, tmp_path):
    loaded = load_model(str(saved))
    loaded.tokenizer.pad_token = None
    folder = copy_of(saved, tmp_path)
    loaded.tokenizer.save_pretrained(folder)
    again = load_model(str(folder)).tokenizer
    assert again.pad_token_id == again.eos_token_id


def test_stories260k_loads_with_its_settings():
    if "SEMTUBE_SHARED" not in os.environ:
        pytest.skip("SEMTUBE_SHARED is not set: no stories260k here")
    loaded = load_model(str(Path(os.environ["SEMTUBE_SHARED"]) / "models" / "stories260k"))
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == 260_032
    assert (loaded.stop_ids, loaded.tokenizer.pad_token_id) == ({2}, 2)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("tiny-2M", "tiny-2m"), ("tiny2m", "tiny-2m"), ("tiny-10mm", "tiny-10m"),
     ("tiny-0.3", "tiny-0.3m")],
)  # fmt: skip
def test_a_name_close_to_a_preset_is_answered_with_the_preset(name, nearest):
    with pytest.raises(UserError) as caught:
        load_model(name)
    assert str(caught.value) == f"no model {name!r}: did you mean the preset {nearest!r}?"


def test_a_folder_whose_name_is_close_to_a_preset_is_loaded(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_of(saved, tmp_path).rename("tiny-2n")
    assert load_model("tiny-2n").stop_ids


@pytest.mark.parametrize("name", ["no-such-author/no-such-model", "nonsense"])
def test_an_unknown_name_says_what_it_is_not(name):
    with pytest.raises(UserError, match=r"is no preset .*tiny-2m.*, no folder or GGUF file, and"):
        load_model(name)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is a folder without config\.json"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["missing.gguf", "deep/missing.gguf"])
def test_a_missing_gguf_file_is_named(tmp_path, name):
    with pytest.raises(UserError, match="no such GGUF file"):
        load_model(str(tmp_path / name))


DAMAGES = {
    "config cut": ("config.json", lambda data: data[:40]),
    "unknown architecture": (
        "config.json",
        lambda data: data.replace(b'"llama"', b'"nonsense"').replace(b"LlamaForCausalLM", b"None"),
    ),
    "weights cut": ("model.safetensors", lambda data: data[: len(data) // 2]),
    "weights no safetensors": ("model.safetensors", lambda data: b"<html>not found</html>" * 9),
    "weights of another size": (
        "config.json",
        lambda data: data.replace(b'"hidden_size": 96', b'"hidden_size": 48'),
    ),
    "weights missing": ("model.safetensors", None),
    "tokenizer cut": ("tokenizer.json", lambda data: data[: len(data) // 2]),
    "tokenizer of another kind": ("tokenizer.json", lambda data: b'{"version": "1.0"}'),
    "tokenizer missing": ("tokenizer.json", None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_an_error_of_the_user_with_its_name(saved, tmp_path, damage):
    folder = copy_of(saved, tmp_path)
    file, change = DAMAGES[damage]
    data = (folder / file).read_bytes()
    if change is None:
        (folder / file).unlink()
    else:
        assert change(data) != data
        (folder / file).write_bytes(change(data))
    with pytest.raises(UserError, match="cannot be loaded: ") as caught:
        load_model(str(folder))
    assert repr(str(folder)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_gguf_file_is_an_error_of_the_user(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF and then nonsense" * 10)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(tmp_path / "a.gguf"))


@pytest.mark.parametrize("trust", [None, False, True])
def test_code_of_others_is_run_only_when_it_is_trusted(saved, monkeypatch, trust):
    seen = []
    for kind in (loading.AutoTokenizer, loading.AutoModelForCausalLM):

        def spy(*args, _real=kind.from_pretrained, **kwargs):
            seen.append(kwargs["trust_remote_code"])
            return _real(*args, **kwargs)

        monkeypatch.setattr(kind, "from_pretrained", spy)
    options = {} if trust is None else {"trust_remote_code": trust}
    load_model(str(saved), **options)
    assert seen == [bool(trust)] * 2


# -- GGUF --------------------------------------------------------------------------------------


def write_gguf(path: Path, model, tokenizer) -> None:
    """A tiny Llama as llama.cpp's converter would write it, in float32."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    heads, size = config.num_attention_heads, config.hidden_size
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(size // heads)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if i in special else 1 for _, i in vocabulary])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)

    def permuted(weight):  # llama.cpp's order of the rotary halves
        halves = weight.reshape(heads, 2, size // heads // 2, size)
        return halves.transpose(1, 2).reshape(size, size)

    state = {name: value.detach() for name, value in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", state["model.norm.weight"].numpy())
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = permuted(weight)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_gives_back_the_weights_and_can_be_saved(tmp_path):
    first = load_model("tiny-0.3m", texts=TEXTS, seed=3)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, first.model, first.tokenizer)
    loaded = load_model(str(path))
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.model(IDS).logits, first.model(IDS).logits)
    text = "lines with a vowel"
    assert loaded.tokenizer(text)["input_ids"] == first.tokenizer(text)["input_ids"]
    assert first.tokenizer.eos_token_id in loaded.stop_ids
    loaded.model.save_pretrained(tmp_path / "folder")
    loaded.tokenizer.save_pretrained(tmp_path / "folder")
    assert same(load_model(str(tmp_path / "folder")).model, loaded.model)


# -- adapters ----------------------------------------------------------------------------------


def test_only_adapters_are_trained_and_they_change_nothing_at_first(saved):
    pytest.importorskip("peft")
    before = load_model(str(saved)).model
    model = add_lora(load_model(str(saved)).model, LoraOptions(rank=4), seed=0, base=str(saved))
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert torch.equal(model(IDS).logits, before(IDS).logits)
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trained} == linear
    model(IDS, labels=IDS).loss.backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    optimizer.step()
    frozen = dict(before.named_parameters())
    for name, value in model.get_base_model().named_parameters():
        if "lora_" not in name:
            assert torch.equal(value, frozen[name.replace(".base_layer", "")])
    assert not torch.equal(model(IDS).logits, before(IDS).logits)


def test_adapters_are_a_function_of_their_seed_and_leave_the_global_generator(saved):
    pytest.importorskip("peft")
    torch.manual_seed(4)
    before = torch.get_rng_state()
    one, two, three = (
        add_lora(load_model(str(saved)).model, LoraOptions(rank=4), seed, base=str(saved))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert same(one, two)
    assert not same(one, three)


@pytest.mark.parametrize(("alpha", "scale"), [(None, 2.0), (4, 1.0), (2, 0.5)])
def test_the_scale_of_adapters_is_twice_the_rank_unless_given(saved, alpha, scale):
    pytest.importorskip("peft")
    model = add_lora(
        load_model(str(saved)).model, LoraOptions(rank=4, alpha=alpha), seed=0, base=str(saved)
    )
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    assert layer.scaling == {"default": scale}


def trained_adapters(base, name: str, seed: int = 0):
    model = add_lora(base, LoraOptions(rank=4), seed, base=name)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.5, generator=torch.Generator().manual_seed(7))
    return model.eval()


def test_a_folder_of_adapters_gives_back_the_adapted_model(saved, tmp_path):
    pytest.importorskip("peft")
    loaded = load_model(str(saved))
    model = trained_adapters(loaded.model, str(saved))
    model.save_pretrained(tmp_path / "adapters")
    loaded.tokenizer.save_pretrained(tmp_path / "adapters")
    again = load_model(str(tmp_path / "adapters"))
    assert torch.equal(again.model(IDS).logits, model(IDS).logits)
    assert not torch.equal(again.model(IDS).logits, load_model(str(saved)).model(IDS).logits)
