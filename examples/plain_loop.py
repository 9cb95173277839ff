"""A PyTorch training loop of your own, with the tube.

One line is new, marked NEW below; the rest is the loop you have already. Behind the `with` the
model is a plain one again: save it as always. Runs offline on a CPU in seconds:

    python examples/plain_loop.py
"""

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM

import semtube
from semtube.models.tokenizer import train_tokenizer

# Generated rows: "17 plus 4 is" -> " 21"
rows = [(f"{a} plus {b} is", f" {a + b}") for a in range(20) for b in range(10)]
tokenizer = train_tokenizer([prompt + answer for prompt, answer in rows], 320)


def collate(rows):
    """Token ids, labels on the answer and its stop token alone, right padding."""
    ids, labels = [], []
    for prompt, answer in rows:
        prompt_ids = tokenizer(prompt).input_ids
        answer_ids = [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
        ids.append(torch.tensor(prompt_ids + answer_ids))
        labels.append(torch.tensor([-100] * len(prompt_ids) + answer_ids))
    input_ids = pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != tokenizer.pad_token_id).long(),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
    }


torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 128}
layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **layers)).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = torch.utils.data.DataLoader(rows, batch_size=20, shuffle=True, collate_fn=collate)

with semtube.attach(model, semtube.SemanticTube(weight=0.02)) as tube:  # NEW
    for epoch in range(4):
        for batch in loader:
            loss = model(**batch).loss  # stays pure next-token loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"epoch {epoch}: loss {loss.item():.3f}", tube.pop_logs())
