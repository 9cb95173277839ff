"""A loop with DistributedDataParallel, with the tube.

Two lines are new, marked NEW below. Two processes give the weights of one. Runs offline on a CPU:

    torchrun --nproc_per_node 2 examples/torchrun_ddp.py
    python examples/torchrun_ddp.py
"""

import os

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM

import semtube

rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
if world > 1:
    distributed.init_process_group("gloo")  # on GPUs: "nccl", and one device for each process

generator = torch.Generator().manual_seed(0)
lengths = torch.randint(4, 24, (8, 16), generator=generator).tolist()  # 8 steps of 16 rows
rows = [[torch.randint(1, 99, (n,), generator=generator) for n in step] for step in lengths]

torch.manual_seed(0)
sizes = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64}
model = LlamaForCausalLM(
    LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
).train()

# NEW: before the wrapper and the optimizer, which then take care of learnable parts too.
tube = semtube.attach(model, semtube.SemanticTube(weight=0.02, predictor="linear"))
host = DistributedDataParallel(model) if world > 1 else model
optimizer = torch.optim.AdamW(host.parameters(), lr=1e-3)

for step in rows:
    mine = step[rank::world]
    input_ids = pad_sequence(mine, batch_first=True)
    labels = pad_sequence(mine, batch_first=True, padding_value=-100)
    # Tokens that are predicted, on all processes: each has another number of them.
    num_items = torch.tensor(sum(len(ids) - 1 for ids in mine))
    if world > 1:
        distributed.all_reduce(num_items)
    batch = {"input_ids": input_ids, "attention_mask": (input_ids > 0).long(), "labels": labels}
    loss = host(**batch, num_items_in_batch=num_items).loss
    (loss * world).backward()  # DistributedDataParallel divides by the number of processes
    optimizer.step()
    optimizer.zero_grad()

print(f"process {rank}:", tube.pop_logs())  # over the rows of this process
tube.detach()  # NEW: from here on the model is a plain one again: save it as always
print(
    f"process {rank}: weights sum to {sum(float(p.detach().sum()) for p in model.parameters()):.4f}"
)
if world > 1:
    # A worker thread of gloo that outlives Python aborts the process, so what holds its group and
    # gradients goes first.
    del host, loss
    distributed.barrier()
    distributed.destroy_process_group()
