"""How much less data does the tube need for the accuracy of next-token prediction?

    semtube study studies/05_data_fractions.py --workers 2

Hypothesis, written before the first run: none. With stop tokens trained, both arms scaled alike and
both tuned on validation rows, the tube's exact match lies within two points of next-token
prediction at every fraction, and its data multiplier holds 1.

NL-RX-SYNTH, preset tiny-2m from nothing, 1,000 steps of 16 rows at every fraction (the paper, too,
holds the updates fixed). 500 rows are carved from train for validation, and rows that stand in
validation or test are left out of train. Each arm is tuned over four settings at fractions 1, 1/8
and 1/32, seed 1: next-token prediction over two learning rates and two weight decays, the tube over
half of the combinations of these and two weights, so chosen that every two values of two options
meet once. Fractions in between take the settings of the nearest. The 2,000 test rows are decoded
once for every final run.

Expected cost: 54 runs of about four minutes, two hours on two cores. `--quick` takes a
smaller model on generated rows: about ten minutes.

Result: results/data_fractions/ and docs/log.md 12. At an eighth the tube is 2.5 points ahead
[+0.6, +4.4], a data multiplier of 1.1, most of it from another learning rate; elsewhere no
difference is shown.
"""

from dataclasses import replace

from semtube.study.design import Study, Tuning

FRACTIONS = [1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]

study = Study(
    question="How many times fewer examples does the tube need for the accuracy of next-token "
    "prediction on NL-RX-SYNTH?",
    hypothesis="As many: exact match within two points at every fraction, and a data multiplier "
    "whose interval holds 1.",
    base={
        "task": "nl-rx-synth",
        "test": "test",
        "validation_rows": 500,
        "drop_overlap": "row",
        "model": "tiny-2m",
        "steps": 1000,
        "batch_size": 16,
        "schedule": "cosine",
    },
    arms={"ntp": {"objective": "ntp"}, "tube": {"objective": "tube"}},
    axes={"fraction": FRACTIONS, "seed": [1, 2, 3]},
    baseline="ntp",
    deciding={"arm": "tube", "at": {"fraction": 1 / 8}},
    margin=0.02,
    tuning=Tuning(
        grids={
            "ntp": {"learning_rate": [1e-3, 2e-3], "weight_decay": [0.1, 1.0]},
            "tube": [
                {"learning_rate": 1e-3, "weight_decay": 0.1, "weight": 0.08},
                {"learning_rate": 1e-3, "weight_decay": 1.0, "weight": 0.02},
                {"learning_rate": 2e-3, "weight_decay": 0.1, "weight": 0.02},
                {"learning_rate": 2e-3, "weight_decay": 1.0, "weight": 0.08},
            ],
        },
        at={"fraction": [1.0, 1 / 8, 1 / 32]},
        seed=1,
    ),
    seconds_per_step=0.22,
)

quick = replace(
    study,
    base={
        "validation_rows": 300,
        "model": "tiny-0.3m",
        "steps": 300,
        "batch_size": 32,
        "schedule": "cosine",
    },
    axes={"fraction": [1.0, 1 / 4], "seed": [1, 2]},
    deciding={"arm": "tube", "at": {"fraction": 1 / 4}},
    tuning=Tuning(
        grids={
            "ntp": {"learning_rate": [2e-3, 4e-3], "weight_decay": [0.1]},
            "tube": {"learning_rate": [4e-3], "weight_decay": [0.1], "weight": [0.02, 0.08]},
        },
        at={"fraction": [1 / 4]},
        seed=1,
    ),
    generated=3000,
    seconds_per_step=0.06,
)
