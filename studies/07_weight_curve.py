"""How do both losses and the accuracy depend on the weight of the tube?

    semtube study studies/07_weight_curve.py --workers 2

Hypothesis, written before the first run: the tube loss on held-out text falls steadily with the
weight (the paper's Figure 4: from 1.4 to 0.6 at 0.08) while next-token loss and exact match stay
flat up to about 0.1 and get worse beyond; no weight beats next-token prediction by two points.

NL-RX-SYNTH, preset tiny-2m from nothing, an eighth of the rows, 1,000 steps of 16 rows. The
weights are the paper's grid, 1/800 to 0.64. Nothing is tuned: the weight is the axis. Learning rate
1e-3 and weight decay 1.0 are what the tube chose on validation rows in studies/05_data_fractions.py
(next-token prediction chose 2e-3 here, 1.4 points ahead of 1e-3, and 1e-3 at all rows). It has no
weight, so its three runs stand at every point of the axis.

Expected cost: 33 runs of about four minutes, an hour and ten minutes on two cores; some of
them are done in study 5. `--quick` takes five minutes.

Result: docs/log.md 10. No weight gains two points (0.02 +0.6 [-0.8, +2.0]); flat up to 0.16, -5.3
[-10.7, +0.1] at 0.64; tube loss falls from 1.46 to 0.43.
"""

from dataclasses import replace

from semtube.study.design import Study

study = Study(
    question="At which weight, if any, does the tube raise exact match on NL-RX-SYNTH?",
    hypothesis="At none: no weight gains two points, weights above 0.1 cost some.",
    base={
        "task": "nl-rx-synth",
        "test": "test",
        "validation_rows": 500,
        "drop_overlap": "row",
        "model": "tiny-2m",
        "fraction": 1 / 8,
        "steps": 1000,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "weight_decay": 1.0,
        "schedule": "cosine",
    },
    arms={"ntp": {"objective": "ntp"}, "tube": {"objective": "tube"}},
    axes={
        "weight": [1 / 800, 1 / 400, 1 / 200, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64],
        "seed": [1, 2, 3],
    },
    baseline="ntp",
    deciding={"arm": "tube", "at": {"weight": 0.02}},
    margin=0.02,
    seconds_per_step=0.22,
)

quick = replace(
    study,
    base={
        "model": "tiny-0.3m",
        "fraction": 1 / 4,
        "steps": 300,
        "batch_size": 32,
        "learning_rate": 4e-3,
        "weight_decay": 0.1,
        "schedule": "cosine",
    },
    axes={"weight": [0.01, 0.08, 0.64], "seed": [1, 2]},
    deciding={"arm": "tube", "at": {"weight": 0.08}},
    generated=3000,
    seconds_per_step=0.06,
)
