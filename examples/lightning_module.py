"""A LightningModule, with the tube.

New is the `with` line around `trainer.fit()`, marked NEW. Give it the language model inside the
module, since that is what `training_step` calls. Lightning does not change `eval()`, and
`from_pretrained` returns a model in `eval()`: call `train()` on it, or dropout and tube are off
(semtube stops with that reason). Runs offline on a CPU in seconds:

    pip install lightning && python examples/lightning_module.py
"""

import lightning
import torch
from transformers import DataCollatorForLanguageModeling, LlamaConfig, LlamaForCausalLM

import semtube
from semtube.models.tokenizer import train_tokenizer

# Generated rows: "17 plus 4 is 21"
texts = [f"{a} plus {b} is {a + b}" for a in range(20) for b in range(10)]
tokenizer = train_tokenizer(texts, 320)
rows = [{"input_ids": [*tokenizer(text).input_ids, tokenizer.eos_token_id]} for text in texts]
collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
loader = torch.utils.data.DataLoader(rows, batch_size=20, shuffle=True, collate_fn=collate)


class LanguageModel(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 64, "intermediate_size": 128}
        layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
        self.model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **layers))
        self.model.train()

    def training_step(self, batch, batch_number):
        loss = self.model(**batch).loss  # stays pure next-token loss
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class LogTerm(lightning.Callback):
    def on_train_epoch_end(self, trainer, module):
        module.log_dict(tube.pop_logs())  # for your logger
        print(f"epoch {trainer.current_epoch}:", dict(trainer.logged_metrics))


torch.manual_seed(0)
module = LanguageModel()
trainer = lightning.Trainer(
    max_epochs=3, accelerator="cpu", callbacks=[LogTerm()], logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
with semtube.attach(module.model, semtube.SemanticTube(weight=0.02)) as tube:  # NEW
    trainer.fit(module, loader)
