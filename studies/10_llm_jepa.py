"""Does LLM-JEPA, which encodes prompt and answer once more, save data where the tube does not?

    semtube study studies/10_llm_jepa.py --workers 2

Hypothesis, written before the first run: no. Exact match lies within two points of next-token
prediction at both fractions, for about twice the time of a step.

As studies/05_data_fractions.py: NL-RX-SYNTH, preset tiny-2m from nothing, 1,000 steps of 16 rows,
all of them and an eighth. Four settings an arm are tried at both: next-token prediction over the
grid that it has there, LLM-JEPA (one predictor token, cosine) over two learning rates and two
weights at the weight decay that both arms of study 5 chose.

Expected cost: 24 runs, twelve of them LLM-JEPA at seven minutes, an hour on two cores; the
others are done in study 5. `--quick` takes ten minutes.

Result: results/llm_jepa/ and docs/log.md 15. -0.3 points [-2.7, +2.1] with all rows, equivalent;
+0.9 [-3.5, +5.3] at an eighth, undecided.
"""

from dataclasses import replace

from semtube.study.design import Study, Tuning

study = Study(
    question="Does LLM-JEPA raise exact match on NL-RX-SYNTH?",
    hypothesis="No: it lies within two points of next-token prediction at both fractions.",
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
    arms={"ntp": {"objective": "ntp"}, "llm_jepa": {"objective": "llm_jepa"}},
    axes={"fraction": [1.0, 1 / 8], "seed": [1, 2, 3]},
    baseline="ntp",
    deciding={"arm": "llm_jepa", "at": {"fraction": 1 / 8}},
    margin=0.02,
    tuning=Tuning(
        grids={
            "ntp": {"learning_rate": [1e-3, 2e-3], "weight_decay": [0.1, 1.0]},
            "llm_jepa": {
                "learning_rate": [1e-3, 2e-3],
                "weight_decay": [1.0],
                "weight": [0.1, 0.5],
            },
        },
        at={"fraction": [1.0, 1 / 8]},
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
    deciding={"arm": "llm_jepa", "at": {"fraction": 1 / 4}},
    tuning=Tuning(
        grids={
            "ntp": {"learning_rate": [2e-3, 4e-3], "weight_decay": [0.1]},
            "llm_jepa": {"learning_rate": [4e-3], "weight_decay": [0.1], "weight": [0.1, 0.5]},
        },
        at={"fraction": [1 / 4]},
        seed=1,
    ),
    generated=3000,
    seconds_per_step=0.06,
)
