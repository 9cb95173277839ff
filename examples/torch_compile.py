"""torch.compile, with the tube.

New is the `attach` line, marked NEW. It stands before `torch.compile`: code that a first batch has
compiled before `attach` knows nothing of the tube, and semtube then stops at the first step. The
compiler breaks its graph behind the decoder and compiles both parts; inner layers (`layer=1`)
break it at each layer, and extra forward passes (`LLMJepa`) run uncompiled. The gradients are those
of the uncompiled model. Runs offline on a CPU in seconds:

    python examples/torch_compile.py                      # no C++ compiler needed
    python examples/torch_compile.py --backend inductor   # the usual backend; needs one
"""

import argparse

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import semtube

parser = argparse.ArgumentParser()
parser.add_argument("--backend", default="aot_eager")
backend = parser.parse_args().backend

# Generated rows: every token is its predecessor plus a step of the row's own, modulo 97.
start, step = torch.arange(64)[:, None], torch.arange(64)[:, None] % 5 + 1
rows = (start + step * torch.arange(24)) % 97

torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 128}
layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=97, **sizes, **layers)).train()

with semtube.attach(model, semtube.SemanticTube(weight=0.02)) as tube:  # NEW
    compiled = torch.compile(model, backend=backend)
    optimizer = torch.optim.AdamW(compiled.parameters(), lr=1e-3)
    for epoch in range(4):
        for batch in rows.split(16):
            loss = compiled(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"epoch {epoch}: loss {loss.item():.3f}", tube.pop_logs())
