"""Does the paper's regime, which never trains the stop token, make the tube look better?

    semtube study studies/06_paper_regime.py --workers 2

Hypothesis, written before the first run: yes, if anywhere. Where a model never learns to stop, an
auxiliary term that changes the states after the answer can change whether it happens to stop; the
gain, if there is one, lies in rows whose right answer ends in `.*`, and in the stop rate, and not
in the share of rows whose answer begins right (`prefix_match`).

As studies/05_data_fractions.py, but in the regime `paper`: loss over the whole text without stop
tokens, no weight decay, no warm-up, linear schedule. The gradients of both arms are scaled alike,
which the paper's code does not do. Not tuned: learning rate 1e-3 and the paper's weight 0.02.
Answers have at most 64 tokens, since many never stop; the longest right answer has 54 characters.

Expected cost: 24 runs of about four minutes, 50 minutes on two cores. `--quick` takes five minutes.

Result: `--quick` is docs/log.md 13: a model from nothing never stops, so exact match is 0 in both
arms, and would be here; the question needs a pretrained model.
"""

from dataclasses import replace

from semtube.study.design import Study

study = Study(
    question="Where stop tokens are never trained, does the tube raise exact match on NL-RX-SYNTH?",
    hypothesis="If it does, by stopping: prefix match does not differ by two points.",
    base={
        "task": "nl-rx-synth",
        "test": "test",
        "validation_rows": 500,
        "drop_overlap": "row",
        "model": "tiny-2m",
        "steps": 1000,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "max_new_tokens": 64,
    },
    arms={"ntp": {"objective": "ntp"}, "tube": {"objective": "tube", "weight": 0.02}},
    axes={"fraction": [1.0, 1 / 4, 1 / 16, 1 / 32], "seed": [1, 2, 3]},
    baseline="ntp",
    deciding={"arm": "tube", "at": {"fraction": 1.0}},
    margin=0.02,
    regime="paper",
    seconds_per_step=0.22,
)

quick = replace(
    study,
    base={
        "model": "tiny-0.3m",
        "steps": 300,
        "batch_size": 32,
        "learning_rate": 4e-3,
        "max_new_tokens": 64,
    },
    axes={"fraction": [1.0, 1 / 4], "seed": [1, 2]},
    generated=3000,
    seconds_per_step=0.06,
)
