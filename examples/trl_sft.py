"""TRL's SFTTrainer with its own fused loss, on prompts and completions, with the tube.

New is the `with` line around `trainer.train()`, marked NEW; the callback below it only writes the
term beside the loss. Packing and padding-free batches need nothing more: the tube of a text ends
where the text ends. Runs offline on a CPU in seconds:

    python examples/trl_sft.py --layout packing
"""

import argparse
import tempfile

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

import semtube
from semtube.models.tokenizer import train_tokenizer
from semtube.training.callback import TermCallback

LAYOUTS = {
    "padded": {},
    "packing": {"packing": True, "max_length": 64},
    "padding_free": {"padding_free": True, "max_length": None},
}
parser = argparse.ArgumentParser()
parser.add_argument("--layout", choices=LAYOUTS, default="packing")
layout = LAYOUTS[parser.parse_args().layout]

# Generated rows; with these keys SFTTrainer trains the completions alone.
rows = [(f"{a} plus {b} is", f" {a + b}") for a in range(20) for b in range(10)]
data = Dataset.from_list([{"prompt": prompt, "completion": answer} for prompt, answer in rows])
tokenizer = train_tokenizer([prompt + answer for prompt, answer in rows], 320)

torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 128}
layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
config = LlamaConfig(vocab_size=len(tokenizer), **sizes, **layers, **ids)

with tempfile.TemporaryDirectory() as folder:
    arguments = SFTConfig(
        output_dir=folder, max_steps=20, per_device_train_batch_size=8, learning_rate=1e-3,
        logging_steps=10, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
        save_strategy="no", **layout,
    )  # fmt: skip
    trainer = SFTTrainer(
        LlamaForCausalLM(config), args=arguments, train_dataset=data, processing_class=tokenizer
    )
    with semtube.attach(trainer.model, semtube.SemanticTube(weight=0.02)) as tube:  # NEW
        TermCallback(tube).add_to(trainer)
        trainer.train()

for line in trainer.state.log_history[:-1]:
    print({key: line[key] for key in ("step", "loss", "term_loss", "term_documents")})
