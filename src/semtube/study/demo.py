"""The demo's study: two arms, two data fractions, two seeds on the embedded data."""

from __future__ import annotations

from semtube.study.design import Study

#: Few rows and steps, so that eight runs take minutes on two cores.
DEMO = Study(
    name="demo",
    command="semtube demo",
    doc="Next-token prediction with and without the tube, on generated text-to-regex rows.",
    question="Does the tube help a small model that sees a quarter of the rows?",
    hypothesis="No: the difference lies within five points, about as much as two seeds can tell.",
    base={
        "model": "tiny-0.3m",
        "steps": 400,
        "batch_size": 32,
        "learning_rate": 4e-3,
        "schedule": "cosine",
        "weight_decay": 0.1,
        "checkpoint_every": 200,
    },
    arms={"ntp": {"objective": "ntp"}, "tube": {"objective": "tube", "weight": 0.02}},
    axes={"fraction": [1.0, 0.25], "seed": [1, 2]},
    baseline="ntp",
    deciding={"arm": "tube", "at": {"fraction": 0.25}},
    margin=0.05,
    generated=5_000,
    seconds_per_step=0.06,
)
