"""The teacher follows the student at its rate."""

import copy

import pytest
import torch
from torch import nn

from semtube.rhm.teacher import update_teacher


def test_after_n_updates_the_teacher_has_gone_its_share_of_the_way():
    student, teacher = nn.Linear(3, 2), nn.Linear(3, 2)
    start = copy.deepcopy(teacher.state_dict())
    aim = copy.deepcopy(student.state_dict())
    for _ in range(7):
        update_teacher(teacher, student, 0.1)
    share = 1 - 0.9**7
    for name, weights in teacher.state_dict().items():
        torch.testing.assert_close(weights, start[name] + share * (aim[name] - start[name]))
    assert all(torch.equal(x, aim[name]) for name, x in student.state_dict().items())


def test_running_means_are_copied_and_a_rate_of_one_copies_all():
    student, teacher = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    student(torch.tensor([[1.0, 5.0], [3.0, 9.0]]))
    with torch.no_grad():
        student.weight.fill_(3.0)
    update_teacher(teacher, student, 0.5)
    assert torch.equal(teacher.running_mean, student.running_mean)
    assert teacher.running_mean.abs().max() > 0
    assert teacher.weight.tolist() == [2.0, 2.0]
    update_teacher(teacher, student, 1.0)
    assert all(torch.equal(x, student.state_dict()[n]) for n, x in teacher.state_dict().items())


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="zip"):
        update_teacher(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.1)
