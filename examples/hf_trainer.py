"""A Hugging Face Trainer, unmodified, with the tube.

New are the `with` line around `trainer.train()` and, if the term shall be logged beside the loss
and a resumed run shall go on as an unbroken one, the callback. Both are marked NEW. Runs offline
on a CPU in seconds:

    python examples/hf_trainer.py
"""

import tempfile

import torch
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

import semtube
from semtube.models.tokenizer import train_tokenizer
from semtube.training.callback import TermCallback

# Generated rows: "17 plus 4 is 21"
texts = [f"{a} plus {b} is {a + b}" for a in range(20) for b in range(10)]
tokenizer = train_tokenizer(texts, 320)
rows = [{"input_ids": [*tokenizer(text).input_ids, tokenizer.eos_token_id]} for text in texts]

torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 128}
layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **layers))

with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=10,
            gradient_accumulation_steps=2,  # the term is scaled right whatever stands here
            max_steps=30,
            learning_rate=1e-3,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=rows,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    with semtube.attach(trainer.model, semtube.SemanticTube(weight=0.02)) as tube:  # NEW
        TermCallback(tube).add_to(trainer)  # NEW
        trainer.train()

for line in trainer.state.log_history[:-1]:
    print({key: line[key] for key in ("step", "loss", "term_loss", "term_documents")})
