"""The table of measures: what is in it, ranges, padding, and nulls for all at once."""

import math
import re
from pathlib import Path

import pytest
import torch

from semtube.geometry.measures import FAMILIES, MEASURES, measure_documents, null_values
from semtube.geometry.nulls import NULLS
from semtube.geometry.paths import Paths
from semtube.geometry.straightness import span_loss_by_length, tube_loss_by_width
from semtube.objectives.trajectories import Trajectories


def measured(batch, *, dear: bool = True):
    return measure_documents(Paths.of_documents(*batch), Paths.of_increments(*batch), dear=dear)


def test_names_are_unique_and_entries_complete():
    listed = [m for family in FAMILIES for m in family.measures]
    assert len({m.name for m in listed}) == len(listed)
    for name, measure in MEASURES.items():
        assert measure.name == name
        assert measure.low < measure.high
        assert measure.null
    # A family is computed as a whole.
    for family in FAMILIES:
        assert len({m.cost for m in family.measures}) == 1


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_values_are_finite_and_in_range(scale, layout, random_texts, lay_out):
    texts = random_texts([40, 1, 14, 4, 2, 9])
    for text in texts:
        text.states_TD *= scale
    found = measured(lay_out(texts, layout))
    for name, values in found.items():
        measure = MEASURES[name]
        assert values.value.shape == (6, len(measure.lengths)) if measure.lengths else (6,)
        assert values.value.shape == values.defined.shape
        assert values.value.isfinite().all()
        assert not values.value[~values.defined].any()
        assert (values.value >= measure.low - 1e-9).all()
        assert (values.value <= measure.high + 1e-6).all()
        assert values.defined[0].any()
        assert not values.defined[1].any()


def test_padding_packing_and_company_change_nothing(layout, random_texts, lay_out):
    texts = random_texts([40, 3, 14, 25])
    found = measured(lay_out(texts, layout))
    for n, text in enumerate(texts):
        alone = measured(lay_out([text], "right"))
        for name, values in found.items():
            if name in ("tube_loss", "span_loss"):
                continue  # drawn by the document's key, which is its place here
            assert torch.equal(values.defined[n], alone[name].defined[0])
            torch.testing.assert_close(values.value[n], alone[name].value[0], rtol=1e-6, atol=1e-7)


def test_units_scale_as_they_say(random_texts, lay_out):
    texts = random_texts([30, 20])
    one = measured(lay_out(texts, "right"))
    for text in texts:
        text.states_TD *= 8
    eight = measured(lay_out(texts, "right"))
    power = {"": 1.0, "rad": 1.0, "state": 8.0, "1/state": 1 / 8}
    for name, values in one.items():
        expected = values.value * power[MEASURES[name].unit]
        torch.testing.assert_close(eight[name].value, expected, rtol=1e-4, atol=1e-6)


def test_spans_run_along_increments_and_triplets_along_states(layout, random_texts, lay_out):
    batch = lay_out(random_texts([40, 14]), layout)
    states, increments = Paths.of_documents(*batch), Paths.of_increments(*batch)
    found = measured(batch)
    spans, triplets = span_loss_by_length(increments), tube_loss_by_width(states)
    assert torch.equal(found["span_loss_by_length"].value, spans.value)
    assert torch.equal(found["tube_loss_by_width"].value, triplets.value)
    # The texts have template between their content, so it makes a difference.
    assert not torch.allclose(span_loss_by_length(states).value, spans.value, atol=1e-2)


def test_cheap_ones_are_a_part(random_texts, lay_out):
    batch = lay_out(random_texts([12]), "right")
    cheap, both = measured(batch, dear=False), measured(batch)
    assert {MEASURES[name].cost for name in cheap} == {"cheap"}
    assert set(cheap) < set(both)


@pytest.mark.parametrize("null", NULLS)
def test_every_measure_has_every_null(null):
    found = null_values(null, num_tokens=40, width=64, dear=True, num_paths=3)
    again = null_values(null, num_tokens=40, width=64, dear=True, num_paths=3)
    for name, value in found.items():
        assert value.mean.isfinite().all()
        assert value.standard_error.isfinite().all()
        assert torch.equal(value.mean, again[name].mean)
    assert found["tube_loss"].defined
    if null == "straight line":
        assert float(found["chord_over_path"].mean) == pytest.approx(1, abs=1e-5)
        assert float(found["turning_angle"].mean) < 1e-3
    if null == "memoryless points":
        assert float(found["turning_angle"].mean) == pytest.approx(2 * math.pi / 3, abs=0.05)


def test_states_before_and_after_a_norm_differ_as_the_sphere_bids():
    # On a sphere three distinct points are never on a line: a line put there has a loss.
    line_TD = torch.arange(1.0, 20)[:, None] * torch.tensor([1.0, 2.0, 0]) + torch.tensor([0, 0, 5])
    sphere_TD = line_TD / line_TD.norm(dim=1, keepdim=True)
    before, after = (measure_documents(Paths.of(x), Paths.of(x), dear=True)
                     for x in (line_TD, sphere_TD))  # fmt: skip
    for name in ("tube_loss", "turning_angle", "noise_to_signal"):
        assert before[name].value.max() < 1e-5
        assert after[name].value[after[name].defined].min() > 1e-5


@pytest.mark.parametrize("far", [1.0, 100.0])
def test_states_equal_up_to_float32_have_no_direction(far):
    generator = torch.Generator().manual_seed(0)
    one_D, noise_TD = torch.randn(8, generator=generator), torch.randn(40, 8, generator=generator)
    states_TD = far * one_D * (1 + 1e-6 * noise_TD)
    assert len(states_TD.unique(dim=0)) == 40
    content = torch.ones(1, 40, dtype=torch.bool)
    trajectories = Trajectories.build(attended_BT=content, content_BT=content)
    found = measured((states_TD[None], trajectories))
    for name, values in found.items():
        if name == "step_length":
            assert values.value.tolist() == [0]
        else:
            assert not values.defined.any(), name
            assert not values.value.any(), name
    # A path that goes there and back: its steps have a direction, and its chord of two has none.
    states_TD[1::2] += far
    found = measured((states_TD[None], trajectories))
    assert found["turning_angle"].value.tolist() == pytest.approx([math.pi], abs=1e-3)
    assert not found["curvature"].defined.any()
    assert not found["noise_to_signal"].defined[0, 0]


def test_a_document_with_a_state_that_is_not_finite_is_left_out(random_texts, lay_out):
    texts = random_texts([30, 20])
    right = measured(lay_out(texts, "right"))
    bad = texts[1].content_T.nonzero()[3]
    texts[1].states_TD[bad, 2] = torch.nan
    found = measured(lay_out(texts, "right"))
    for name, values in found.items():
        assert torch.equal(values.value[0], right[name].value[0])
        assert values.value.isfinite().all()
        assert not values.defined[1].any(), name


def test_every_measure_stands_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "geometry.md").read_text()
    for name in MEASURES:
        short = re.sub(r"_(greedy|sampled)", "_greedy", name)  # a row for both
        assert f"`{short}`" in text, name
