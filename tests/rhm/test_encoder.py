"""The encoder: an independent block, what a mask hides, what causal hides, where it begins."""

import pytest
import torch
from torch import nn

from semtube.rhm.encoder import Block, Encoder, average_top
from semtube.rhm.generators import torch_generator


def encoder(**changes) -> Encoder:
    torch.manual_seed(0)
    sizes = dict(
        num_features=5, num_tokens=6, hidden_size=8, num_layers=3, num_heads=2,
        feed_forward_size=12, dropout_rate=0.2,
    )  # fmt: skip
    made = Encoder(**(sizes | changes))
    with torch.no_grad():  # away from the small initial weights, or nothing would show
        for weights in made.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    return made


TOKENS = torch.tensor([[0, 1, 2, 3, 4, 0], [3, 3, 1, 0, 2, 4]])


def test_a_block_is_torchs_own_pre_norm_layer():
    torch.manual_seed(1)
    block = Block(8, 2, 12, 0.0)
    layer = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = {
        layer.self_attn.in_proj_weight: block.queries_keys_values.weight,
        layer.self_attn.in_proj_bias: block.queries_keys_values.bias,
        layer.self_attn.out_proj.weight: block.attention_out.weight,
        layer.self_attn.out_proj.bias: block.attention_out.bias,
        layer.linear1.weight: block.feed_forward_in.weight,
        layer.linear1.bias: block.feed_forward_in.bias,
        layer.linear2.weight: block.feed_forward_out.weight,
        layer.linear2.bias: block.feed_forward_out.bias,
    }
    for theirs, ours in pairs.items():
        theirs.data = ours.data
    x = torch.randn(3, 6, 8)
    torch.testing.assert_close(block(x, False, None), layer(x))
    ahead = nn.Transformer.generate_square_subsequent_mask(6)
    torch.testing.assert_close(block(x, True, None), layer(x, ahead, is_causal=True))


def test_a_masked_token_is_hidden_and_the_others_are_not():
    model = encoder()
    masked = torch.zeros_like(TOKENS, dtype=torch.bool)
    masked[:, 2] = True
    states = model(TOKENS, masked)
    assert len(states) == 3
    assert all(x.shape == (2, 6, 8) for x in states)
    other = TOKENS.clone()
    other[:, 2] = (other[:, 2] + 1) % 5
    for a, b in zip(states, model(other, masked), strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(model(other)[-1], model(TOKENS)[-1])
    other[:, 3] = (other[:, 3] + 1) % 5
    assert not torch.allclose(model(other, masked)[-1][:, 0], states[-1][:, 0])


def test_vectors_come_in_where_there_is_no_embedding():
    model = encoder(num_features=None)
    x = torch.randn(2, 6, 8)
    masked = torch.zeros(2, 6, dtype=torch.bool)
    masked[0, 1] = True
    hidden = x.clone()
    hidden[0, 1] = 100.0
    assert torch.equal(model(hidden, masked)[-1], model(x, masked)[-1])
    assert not torch.equal(model(hidden)[-1], model(x)[-1])


def test_a_causal_encoder_sees_nothing_ahead():
    model = encoder(causal=True)
    other = TOKENS.clone()
    other[:, 4] = (other[:, 4] + 1) % 5
    changed = (model(other)[-1] - model(TOKENS)[-1]).abs().amax((0, 2))
    assert changed[:4].max() < 1e-6
    assert changed[4:].min() > 1e-3


def test_positions_tell_equal_tokens_apart():
    same = torch.zeros(1, 6, dtype=torch.long)
    states = encoder()(same)[-1][0]
    assert torch.pdist(states).min() > 1e-3


def test_dropout_follows_its_generator_and_is_absent_without():
    model = encoder()
    first = model(TOKENS, None, torch_generator(0, "dropout"))[-1]
    assert torch.equal(first, model(TOKENS, None, torch_generator(0, "dropout"))[-1])
    assert not torch.equal(first, model(TOKENS, None, torch_generator(1, "dropout"))[-1])
    assert torch.equal(model(TOKENS)[-1], model(TOKENS)[-1])


def test_the_average_of_the_top_is_of_normed_states():
    states = [torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    expected = torch.zeros(2, 3, 8)
    for x in states[2:]:
        deviation = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        expected += (x - x.mean(-1, keepdim=True)) / deviation / 2
    torch.testing.assert_close(average_top(states, 2), expected)


def test_initial_weights_are_small_and_biases_zero():
    torch.manual_seed(0)
    model = Encoder(
        num_features=16, num_tokens=16, hidden_size=64, num_layers=2, num_heads=4,
        feed_forward_size=128, dropout_rate=0.1,
    )  # fmt: skip
    for name, weights in model.named_parameters():
        if weights.ndim > 1:
            assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.3), name
        else:
            assert weights.eq(0).all() or weights.eq(1).all(), name
