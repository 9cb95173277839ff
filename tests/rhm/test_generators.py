"""Named generators: equal names draw alike, others do not, and the global one is left alone."""

import subprocess
import sys

import numpy as np
import torch

from semtube.rhm.generators import initial_weights, numpy_generator, torch_generator


def test_equal_names_draw_alike_and_each_part_of_a_name_counts():
    names = [(0, "order"), (1, "order"), (0, "spans"), (0, "order", 0), (0, "order", 1)]
    numbers = [numpy_generator(*name).random() for name in names]
    assert numbers == [numpy_generator(*name).random() for name in names]
    assert len(set(numbers)) == len(names)
    drawn = [torch.rand(1, generator=torch_generator(*name)).item() for name in names]
    assert drawn == [torch.rand(1, generator=torch_generator(*name)).item() for name in names]
    assert len(set(drawn)) == len(names)


def test_weights_depend_on_the_seed_alone_and_global_draws_go_on_as_if_nothing_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with initial_weights(3):
        first = torch.nn.Linear(4, 4).weight
    assert torch.equal(torch.rand(3), expected)
    with initial_weights(3):
        assert torch.equal(torch.nn.Linear(4, 4).weight, first)
    with initial_weights(4):
        assert not torch.equal(torch.nn.Linear(4, 4).weight, first)


def test_settings_load_no_torch():
    code = (
        "import sys, semtube.rhm.slc_settings, semtube.rhm.data2vec_settings; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numpy_draws_do_not_touch_the_global_generator():
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    numpy_generator(0, "order").random(10)
    assert np.random.random() == expected
