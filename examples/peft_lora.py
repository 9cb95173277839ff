"""LoRA adapters by PEFT, with the tube and its learned predictor (the paper's "Pred").

New is the `with` line, marked NEW. Give it `trainer.model`, the wrapped one, and open it before
`trainer.train()` makes the optimizer: the predictor is then trained with the adapters. Behind the
`with` the predictor is gone, and the saved adapter is a plain one. Runs offline on a CPU in
seconds:

    python examples/peft_lora.py
"""

import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

import semtube
from semtube.models.tokenizer import train_tokenizer
from semtube.training.callback import TermCallback

# Generated rows; with these keys SFTTrainer trains the completions alone.
rows = [(f"{a} plus {b} is", f" {a + b}") for a in range(20) for b in range(10)]
data = Dataset.from_list([{"prompt": prompt, "completion": answer} for prompt, answer in rows])
tokenizer = train_tokenizer([prompt + answer for prompt, answer in rows], 320)

torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 128}
layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
config = LlamaConfig(vocab_size=len(tokenizer), **sizes, **layers, **ids)
objective = semtube.SemanticTube(weight=0.02, predictor="linear")

with tempfile.TemporaryDirectory() as folder:
    arguments = SFTConfig(
        output_dir=folder, max_steps=20, per_device_train_batch_size=8, learning_rate=1e-3,
        logging_steps=10, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
        save_strategy="no",
    )  # fmt: skip
    trainer = SFTTrainer(
        LlamaForCausalLM(config),  # yours: a pretrained model
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    with semtube.attach(trainer.model, objective) as tube:  # NEW
        TermCallback(tube).add_to(trainer)
        trainer.train()
    for line in trainer.state.log_history[:-1]:
        print({key: line[key] for key in ("step", "loss", "term_loss", "term_documents")})
    trainer.model.save_pretrained(f"{folder}/adapter")
    saved = load_file(f"{folder}/adapter/adapter_model.safetensors")
    print(len(saved), "tensors saved, all of LoRA:", all("lora_" in name for name in saved))
