"""How much data does weight decay save, with no auxiliary term at all?

    semtube study studies/11_weight_decay.py --workers 2

Hypothesis, written after the tuning of studies/05_data_fractions.py (one seed, validation rows) and
before any final run of this study: a decay of 1.0 in place of 0.1 raises exact match at every
fraction from 1/16 to all rows, most where few rows are seen many times, and saves at least a
quarter of the rows at an eighth (data multiplier of 1.3 or more). Source of the idea:
arXiv 2605.01640, where strong decay cuts the excess loss of repeated data.

As study 5: NL-RX-SYNTH, preset tiny-2m from nothing, next-token prediction, 1,000 steps of 16 rows
at every fraction, learning rate 1e-3. Nothing is tuned, so that the arms differ in the decay alone.

Expected cost: 36 runs of about four minutes, an hour and a quarter on two cores; about
half of them are done in studies 5 and 9. `--quick` takes five minutes.

Result: results/weight_decay/ and docs/log.md 16. At an eighth 5.1 points more, as 1.23 times the
rows would give: less than was expected.
"""

from dataclasses import replace

from semtube.study.design import Study

study = Study(
    question="How many times fewer examples does next-token prediction need with more weight decay "
    "on NL-RX-SYNTH?",
    hypothesis="At an eighth of the rows at least 1.3 times fewer with 1.0 in place of 0.1.",
    base={
        "task": "nl-rx-synth",
        "test": "test",
        "validation_rows": 500,
        "drop_overlap": "row",
        "model": "tiny-2m",
        "objective": "ntp",
        "steps": 1000,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "cosine",
    },
    arms={"decay 0.1": {"weight_decay": 0.1}, "decay 1.0": {"weight_decay": 1.0}},
    axes={"fraction": [1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32], "seed": [1, 2, 3]},
    baseline="decay 0.1",
    deciding={"arm": "decay 1.0", "at": {"fraction": 1 / 8}},
    margin=0.02,
    seconds_per_step=0.22,
)

quick = replace(
    study,
    base={
        "model": "tiny-0.3m",
        "objective": "ntp",
        "steps": 300,
        "batch_size": 32,
        "learning_rate": 4e-3,
        "schedule": "cosine",
    },
    axes={"fraction": [1.0, 1 / 4], "seed": [1, 2]},
    deciding={"arm": "decay 1.0", "at": {"fraction": 1 / 4}},
    generated=3000,
    seconds_per_step=0.06,
)
