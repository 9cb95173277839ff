"""A teacher: a slow copy of a student."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, rate: float) -> None:
    """Move the teacher's weights by `rate` towards the student's; copy the buffers.

    w_teacher <- (1 - rate) w_teacher + rate w_student, in place. Buffers are the running means of
    batch normalisation, which are slow already.

    Args:
        rate: weight of the student in (0, 1]; 1 copies. SLC's paper writes it a = 0.015; data2vec
            writes the teacher's weight, 0.99.

    Source: arXiv 2605.27734, appendix on SLC; that the buffers are copied is our choice.
    """
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, rate)
    for slow, fast in zip(teacher.buffers(), student.buffers(), strict=True):
        slow.copy_(fast)
