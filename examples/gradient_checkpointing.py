"""Gradient checkpointing, with the tube at an inner layer.

New is the `attach` line, marked NEW. Checkpointing recomputes each layer in the backward pass; the
tube notices and adds its gradient once. `layer=1` reads the states behind the first layer; leave it
out for the last. In a Trainer write `activation_checkpointing=True` (before transformers 5.23:
`gradient_checkpointing=True`) in its arguments instead of the line marked CHECKPOINTING. Runs
offline on a CPU in seconds:

    python examples/gradient_checkpointing.py
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import semtube

# Generated rows: every token is its predecessor plus a step of the row's own, modulo 97.
start, step = torch.arange(64)[:, None], torch.arange(64)[:, None] % 5 + 1
rows = (start + step * torch.arange(24)) % 97

torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 128}
layers = {"num_hidden_layers": 3, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=97, **sizes, **layers)).train()
model.activation_checkpointing_enable({"use_reentrant": False})  # CHECKPOINTING
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

with semtube.attach(model, semtube.SemanticTube(weight=0.02, layer=1)) as tube:  # NEW
    for epoch in range(4):
        for batch in rows.split(16):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"epoch {epoch}: loss {loss.item():.3f}", tube.pop_logs())
