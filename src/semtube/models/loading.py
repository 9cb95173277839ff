"""Load a model and its tokenizer: a preset, a folder, a GGUF file or a hub name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from semtube.errors import UserError
from semtube.models.presets import PRESETS, build_preset
from semtube.models.tokenizer import train_tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model in float32 with its tokenizer.

    Args:
        model: a causal language model of transformers, PEFT-wrapped where a folder holds adapters.
        tokenizer: a fast one.
        stop_ids: every token at which the model's own settings end a text.
    """

    model: Any
    tokenizer: Any
    stop_ids: frozenset[int]


def load_model(
    name: str,
    *,
    texts: Iterable[str] = (),
    seed: int = 0,
    trust_remote_code: bool = False,
    attention_dropout: float = 0.0,
) -> LoadedModel:
    """Load by name; weights are float32, the master copy that training needs.

    Args:
        name: a preset (`tiny-2m`), a folder, a `.gguf` file, or a hub name.
        texts: what a preset's tokenizer is trained on.
        seed: initial weights of a preset.
        trust_remote_code: run code that comes with the model. Off unless you trust its author.
        attention_dropout: dropout of attention weights in training; 0 leaves the model's own.

    Raises:
        UserError: nothing of this name can be loaded, it has no tokenizer, or its configuration
            knows no attention dropout.
    """
    if name in PRESETS:
        tokenizer = train_tokenizer(texts, PRESETS[name].vocabulary_size)
        ids = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
        model = build_preset(name, len(tokenizer), seed, **ids)
        _set_attention_dropout(model, attention_dropout)
        return LoadedModel(model, tokenizer, _stop_ids(model, tokenizer))
    # A hub name has an owner; one without is likelier a preset mistyped.
    cutoff = 0.7 if "/" in name else 0.55
    near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=cutoff)
    if near and not Path(name).exists():
        raise UserError(f"no model {name!r}: did you mean the preset {near[0]!r}?")
    where, options = _source(name)
    options["trust_remote_code"] = trust_remote_code
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(where, **options)
        if (Path(where) / "adapter_config.json").is_file():
            model = _load_adapters(Path(where), trust_remote_code=trust_remote_code)
        else:
            model = _load_weights(where, options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(_not_loaded(name, error)) from error
    _set_attention_dropout(model, attention_dropout)
    if tokenizer.pad_token_id is None:
        # Padding is masked by the attention mask, so any id serves.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return LoadedModel(model, tokenizer, _stop_ids(model, tokenizer))


def _set_attention_dropout(model: Any, rate: float) -> None:
    if rate == 0:
        return
    layers = [module for module in model.modules() if hasattr(module, "attention_dropout")]
    if not layers:
        raise UserError(
            f"attention_dropout is {rate}: {type(model).__name__} has no such dropout; use 0"
        )
    for layer in layers:
        layer.attention_dropout = rate


def _load_weights(where: str, options: dict[str, Any]) -> PreTrainedModel:
    if "gguf_file" in options:
        from transformers import GgufConfig

        options = {**options, "quantization_config": GgufConfig(dequantize=True)}
    return AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **options)


def _load_adapters(folder: Path, *, trust_remote_code: bool) -> Any:
    """Adapters on the model they were trained on, by the name that they store."""
    from peft import PeftConfig, PeftModel

    base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if not base:
        raise UserError(f"{str(folder)!r} holds adapters but does not name their base model")
    loaded = load_model(base, trust_remote_code=trust_remote_code)
    return PeftModel.from_pretrained(loaded.model, str(folder), is_trainable=True)


def _source(name: str) -> tuple[str, dict[str, Any]]:
    if not name:
        raise UserError(f"model is empty: give a preset ({', '.join(PRESETS)}), a folder or a name")
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"model {name!r}: no such GGUF file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir() and not any(
        (path / file).is_file() for file in ("config.json", "adapter_config.json")
    ):
        raise UserError(f"model {name!r} is a folder without config.json: give a model's folder")
    return name, {}


def _not_loaded(name: str, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0][:160]
    if Path(name).exists():
        return f"model {name!r} cannot be loaded: {reason}"
    return (
        f"model {name!r} is no preset ({', '.join(PRESETS)}), no folder or GGUF file, and cannot "
        f"be had from the hub ({reason})"
    )


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    listed = getattr(model.generation_config, "eos_token_id", None)
    ids = set(listed if isinstance(listed, list) else [listed])
    ids.add(tokenizer.eos_token_id)
    return frozenset(i for i in ids if i is not None)
