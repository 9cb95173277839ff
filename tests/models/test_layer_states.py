"""States behind layers against transformers' own list of them, and the head against its logits."""

import pytest
import torch

pytest.importorskip("transformers")
from semtube.errors import UserError
from semtube.models.decoder import find_decoder
from semtube.models.head import Head
from semtube.models.layer_states import BEFORE_NORM, LAST, final_norm, layer_names, layer_states
from semtube.models.presets import build_preset

IDS = torch.randint(3, 90, (3, 11), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    return build_preset("tiny-0.3m", 96, 0, bos_token_id=0, eos_token_id=1, pad_token_id=2).eval()


def states_of(model, names):
    with layer_states(model, names) as states, torch.no_grad():
        find_decoder(model)(input_ids=IDS, use_cache=False)
        return dict(states)


def test_states_are_those_that_transformers_lists(model) -> None:
    names = layer_names(model)
    states = states_of(model, names)
    with torch.no_grad():
        listed = model(input_ids=IDS, output_hidden_states=True).hidden_states
    number = len(listed) - 1
    assert names == [*map(str, range(1, number)), BEFORE_NORM, LAST]
    for place in range(1, number):
        assert torch.equal(states[str(place)], listed[place])
    assert torch.equal(states[LAST], listed[number])
    assert torch.equal(final_norm(model)(states[BEFORE_NORM]), states[LAST])
    assert not torch.allclose(states[BEFORE_NORM], states[LAST])


def test_no_hook_stays(model) -> None:
    before = [len(module._forward_hooks) for module in model.modules()]
    watching = layer_states(model, layer_names(model))
    watching.__enter__()
    assert [len(module._forward_hooks) for module in model.modules()] != before
    watching.__exit__(None, None, None)
    assert [len(module._forward_hooks) for module in model.modules()] == before


def test_layers_are_sorted_counted_from_the_end_and_named_once(model) -> None:
    number = len(layer_names(model)) - 1
    asked = ["-1", "1", str(number), LAST, BEFORE_NORM]
    assert layer_names(model, asked) == ["1", BEFORE_NORM, LAST]
    assert layer_names(model, ["-2"]) == [str(number - 1)]


@pytest.mark.parametrize("name", ["0", "99", "-99", "norm"])
def test_a_layer_that_does_not_exist(model, name) -> None:
    with pytest.raises(UserError, match=f"layer is '{name}', but the model has"):
        layer_names(model, [name])


def test_the_head_gives_the_models_logits(model) -> None:
    last = states_of(model, layer_names(model, ["-1"]))
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
        head = Head(model)
        torch.testing.assert_close(head(next(iter(last.values()))), logits)
    assert head.bias_V is None
    assert head.weight_VD.shape[0] == logits.shape[-1]


def test_a_soft_cap_is_the_models(model) -> None:
    config = model.config
    config.final_logit_softcapping = 2.0
    try:
        capped = Head(model).capped(torch.tensor([-100.0, 0.0, 1.0]))
    finally:
        del config.final_logit_softcapping
    torch.testing.assert_close(capped, 2 * torch.tensor([-50.0, 0.0, 0.5]).tanh())


def test_a_head_that_rescales_is_refused(model) -> None:
    model.config.logits_scaling = 8.0
    try:
        with pytest.raises(UserError, match="no plain head"):
            Head(model)
    finally:
        del model.config.logits_scaling
