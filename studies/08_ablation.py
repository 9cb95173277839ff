"""Which form of the term matters, and do the answers' endings tell them apart?

    semtube study studies/08_ablation.py --workers 2

Hypothesis, written before the first run: none does. The paper's order (tube, then two-view, then
mask, then curvature) is not found once stop tokens are trained, and no arm answers the rare ending
`.*.*` (25 of 2,000 test rows) or the frequent `.*` better than next-token prediction after Holm's
correction.

NL-RX-SYNTH, preset tiny-2m from nothing, an eighth of the rows, 1,000 steps of 16 rows, learning
rate 1e-3, weight decay 1.0 (the tube's choice on validation rows in studies/05_data_fractions.py).
Every arm tries three weights on validation rows at seed 1 (next-token prediction three weight
decays) and is then run at three seeds. Studies/01_objectives.py asked the same with 300 steps and
less decay.

Expected cost: 40 runs of four to eight minutes, an hour and a half on two cores. `--quick` takes
ten minutes.

Result: `--quick` is docs/log.md 14 (two seeds, nothing shown); the whole is not run.
"""

from dataclasses import replace

from semtube.study.design import Study, Tuning

WEIGHTS = {"weight": [0.005, 0.02, 0.08]}
STRONGER = {"weight": [0.02, 0.08, 0.32]}
ARMS = {
    "ntp": {"objective": "ntp"},
    "tube": {"objective": "tube"},
    "tube, span": {"objective": "tube", "options": {"form": "span"}},
    "zero": {"objective": "tube", "options": {"law": "anchored"}},
    "predictor": {"objective": "tube", "options": {"predictor": "linear"}},
    "two_view": {"objective": "two_view"},
    "mask": {"objective": "masked_span"},
    "curvature": {"objective": "curvature"},
}

study = Study(
    question="Does any form of the term raise exact match on NL-RX-SYNTH?",
    hypothesis="None, after correction for as many comparisons.",
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
        "schedule": "cosine",
    },
    arms=ARMS,
    axes={"seed": [1, 2, 3]},
    baseline="ntp",
    deciding={"arm": "tube"},
    margin=0.02,
    tuning=Tuning(
        grids={
            arm: {"weight_decay": [0.3, 1.0, 3.0]}
            if arm == "ntp"
            else STRONGER | {"weight_decay": [1.0]}
            if arm == "mask"
            else WEIGHTS | {"weight_decay": [1.0]}
            for arm in ARMS
        }
    ),
    seconds_per_step=0.22,
)

quick = replace(
    study,
    base={
        "validation_rows": 200,
        "model": "tiny-0.3m",
        "fraction": 1 / 4,
        "steps": 300,
        "batch_size": 32,
        "learning_rate": 4e-3,
        "schedule": "cosine",
    },
    arms={name: ARMS[name] for name in ("ntp", "tube", "tube, span", "curvature")},
    axes={"seed": [1, 2]},
    tuning=Tuning(
        grids={
            "ntp": {"weight_decay": [0.1, 1.0]},
            **{
                arm: {"weight": [0.02, 0.08], "weight_decay": [0.1]}
                for arm in ("tube", "tube, span", "curvature")
            },
        }
    ),
    generated=3000,
    seconds_per_step=0.06,
)
