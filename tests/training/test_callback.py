"""In somebody else's Trainer the term is logged beside the host's own loss."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import semtube
from semtube.training.callback import TermCallback


class Rows(Dataset):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(1, 50, (12,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}


def trainer(folder: Path, steps: int) -> Trainer:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, logging_steps=2,
        save_steps=3, report_to="none", disable_tqdm=True, lr_scheduler_type="constant",
        dataloader_pin_memory=False, use_cpu=True,
    )  # fmt: skip
    return Trainer(model=LlamaForCausalLM(config), args=arguments, train_dataset=Rows())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_checkpoint_of_another_objective_is_refused_and_an_unknown_one_told(
    tmp_path: Path,
) -> None:
    def train(objective: semtube.Objective, *, resume: bool, with_callback: bool = True) -> None:
        host = trainer(tmp_path, 6 if resume else 3)
        with semtube.attach(host.model, objective) as attachment:
            if with_callback:
                TermCallback(attachment).add_to(host)
            host.train(resume_from_checkpoint=resume)

    train(semtube.Curvature(), resume=False)
    told = "trained with objective Curvature.*, but SemanticTube.* is asked for"
    with pytest.raises(semtube.UserError, match=told):
        train(semtube.SemanticTube(), resume=True)
    train(semtube.Curvature(), resume=False, with_callback=False)
    (tmp_path / "checkpoint-3" / "semtube.json").unlink(missing_ok=True)
    with pytest.warns(UserWarning, match="nobody knows whether it was trained with SemanticTube"):
        train(semtube.SemanticTube(), resume=True)


def test_a_checkpoint_that_lacks_the_parts_beside_adapters_is_not_whole(tmp_path: Path) -> None:
    def found(*names: str, **attributes: object) -> bool:
        folder = tmp_path / "-".join(names)
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).touch()
        attachment: Any = SimpleNamespace(has_parts=True, model=SimpleNamespace(**attributes))
        return TermCallback(attachment).has_parts_in(folder)

    both = ("semtube.safetensors", "semtube.json")
    assert found(*both, peft_config={})
    # The second is written last, so the first alone may be half of it.
    assert not found(*both[:1], peft_config={})
    assert not found(peft_config={})
    assert found()  # the host's own checkpoints hold the parts


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_log_has_both_losses_and_a_resumed_run_draws_alike(tmp_path: Path) -> None:
    tube = semtube.SemanticTube(weight=0.5)

    def train(folder: str, steps: int, resume: bool = False) -> Trainer:
        host = trainer(tmp_path / folder, steps)
        with semtube.attach(host.model, tube, seed=3) as attachment:
            TermCallback(attachment).add_to(host)
            host.train(resume_from_checkpoint=resume)
        return host

    whole = train("whole", 6)
    lines = [line for line in whole.state.log_history if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert all(0 < line["term_loss"] < 2 for line in lines)
    assert all(line["term_documents"] == 8 for line in lines)
    train("parts", 3)
    parts = train("parts", 6, resume=True)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(a, b)
