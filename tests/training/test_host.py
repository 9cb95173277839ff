"""What a run checks of its model before anything is written."""

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.training.host import check_trainable


def test_r_drop_needs_a_model_that_drops_something(tmp_path: Path) -> None:
    def check(weight: float, dropout: float) -> None:
        config = RunConfig(
            data="train.jsonl", output=str(tmp_path / "run"), model="tiny-0.3m",
            objective="r_drop", weight=weight, steps=1, batch_size=1, max_tokens=8,
            learning_rate=1e-3, precision="fp32",
        )  # fmt: skip
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
        model = LlamaForCausalLM(
            LlamaConfig(vocab_size=9, num_hidden_layers=1, attention_dropout=dropout, **sizes)
        )
        check_trainable(config, model, 4)

    with pytest.raises(UserError, match="drops nothing"):
        check(1.0, 0.0)
    check(1.0, 0.1)
    check(0.0, 0.0)
    assert not list(tmp_path.iterdir())
