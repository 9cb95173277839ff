"""What the Semantic Tube paper and its predecessor print, to stand beside a study's numbers.

Accuracies are per cent, mean and deviation over five seeds, of Llama-3.2-1B-Instruct fine-tuned in
full where nothing else is said.

Source: Semantic Tube Prediction, arXiv 2602.22617 v1; LLM-JEPA, arXiv 2509.14252 v2.
"""

from __future__ import annotations

#: Our objective -> its name in the paper.
PAPER_NAMES = {
    "ntp": "NTP",
    "llm_jepa": "LLM-JEPA",
    "tube": "STP",
    "two_view": "Two-view",
    "masked_span": "Mask",
    "curvature": "Curvature",
}

#: Task -> objective -> (mean, deviation): the main table, drawn as Figure 5a.
ACCURACY = {
    "nl-rx-synth": {"ntp": (57.29, 5.32), "llm_jepa": (71.46, 1.34), "tube": (84.29, 0.36)},
    "nl-rx-turk": {"ntp": (22.49, 1.91), "llm_jepa": (30.94, 1.13), "tube": (41.16, 0.30)},
    "gsm8k": {"ntp": (32.36, 0.58), "llm_jepa": (36.36, 0.20), "tube": (36.60, 0.53)},
    "spider": {"ntp": (47.52, 2.44), "llm_jepa": (50.55, 2.08), "tube": (56.78, 0.68)},
    "nq-open": {"ntp": (20.12, 0.41), "llm_jepa": (21.59, 0.40), "tube": (26.59, 0.65)},
    "hellaswag": {"ntp": (27.93, 0.46), "llm_jepa": (35.22, 2.09), "tube": (36.67, 0.44)},
}
#: Ablations on NL-RX-SYNTH, the best variant of each family.
ABLATIONS = {"two_view": (81.58, 0.89), "masked_span": (74.14, 3.45)}

#: Table 1, of NL-RX-SYNTH: the right answer's ending -> objective -> accuracy; apparently one run.
ENDINGS = {
    "ending in .*": {"ntp": 29.9, "llm_jepa": 68.9, "tube": 88.5},
    "ending in .*.*": {"ntp": 28.0, "llm_jepa": 32.0, "tube": 68.0},
}

#: Table 2 (Llama-3.2-1B: the main table): the best weight of the tube by model, NL-RX-SYNTH.
BEST_WEIGHTS = {
    "Llama-3.2-1B": 0.02,
    "Gemma-2-2b": 0.005,
    "Qwen3-1.7B": 0.02,
    "R1-Distill-Qwen-1.5B": 0.04,
    "OLMo-2-1B": 0.01,
    "OpenELM-1.1B": 0.04,
    "Llama-3.2-3B": 0.01,
    "Llama-3.1-8B": 0.0025,
}

#: Table 4: (better family, worse family) -> p of a paired one-sided t-test over five seeds.
FAMILY_P = {
    ("tube", "two_view"): 1.14e-3,
    ("tube", "masked_span"): 1.77e-3,
    ("tube", "curvature"): 3.04e-5,
    ("two_view", "masked_span"): 4.76e-3,
    ("two_view", "curvature"): 5.10e-5,
    ("masked_span", "curvature"): 1.28e-4,
}
#: Table 5: the same between variants of a family, by the names our ablation study gives them.
VARIANT_P = {
    ("tube", "zero"): 0.0534,
    ("tube", "predictor"): 2.03e-3,
    ("tube", "system_prompt"): 2.34e-4,
    ("two_view_warm_up", "two_view"): 0.265,
    ("curvature", "signed"): 0.0368,
}

#: Fraction of NL-RX-SYNTH -> objective -> accuracy: the only printed points of the curve.
FRACTIONS = {1 / 16: {"tube": 56.34}, 1.0: {"ntp": 57.29}}
