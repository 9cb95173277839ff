"""What the Semantic Tube paper and its predecessor print, to stand beside a study's numbers.

Accuracies are per cent, mean and deviation over five seeds, of models fine-tuned in full: the best
of the tuned weights, and None for a deviation that is not printed.

Source: Semantic Tube Prediction, arXiv 2602.22617 v1; LLM-JEPA, arXiv 2509.14252 v2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Setting = tuple[str, str, str]
"""A method as a run sets it: objective, its options as JSON, schedule of its weight."""
Accuracy = tuple[float, float | None]

#: Options that say what unset ones say.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "tube": {"form": "triplet", "law": "uniform", "content": "text", "predictor": "none"},
    "two_view": {"form": "displacement", "predictor": "none"},
    "masked_span": {
        "target": "displacement", "law": "uniform", "content": "text", "predictor": "none",
    },
    "curvature": {"content": "text"},
    "llm_jepa": {"distance": "cosine", "reverse": False, "predictor": "none"},
}  # fmt: skip
#: Options that the papers tuned, as they did the weight: no variants.
TUNED = {"llm_jepa": ("predictor_tokens",)}


def setting(
    objective: str, options: Mapping[str, Any] | None = None, schedule: str = "constant"
) -> Setting:
    """A method in the one form that it is looked up by."""
    if objective == "ntp":
        return objective, "{}", "constant"
    defaults, tuned = DEFAULTS.get(objective, {}), TUNED.get(objective, ())
    kept = {
        name: value
        for name, value in (options or {}).items()
        if name not in tuned and not (name in defaults and defaults[name] == value)
    }
    return objective, json.dumps(kept, sort_keys=True), schedule


NTP, LLM_JEPA, STP = setting("ntp"), setting("llm_jepa"), setting("tube")
ZERO = setting("tube", {"law": "anchored"})
PREDICTOR = setting("tube", {"predictor": "linear"})
INSTRUCTION = setting("tube", {"content": "instruction"})
TWO_VIEW = setting("two_view")
TWO_VIEW_WARM_UP = setting("two_view", schedule="linear")
TWO_VIEW_PREDICTOR = setting("two_view", {"predictor": "linear"})
TWO_VIEW_MEAN = setting("two_view", {"form": "mean"})
MASK = setting("masked_span")
MASK_FULL = setting("masked_span", {"target": "full"})
MASK_INSTRUCTION = setting("masked_span", {"content": "instruction"})
MASK_INSTRUCTION_FULL = setting("masked_span", {"content": "instruction", "target": "full"})
CURVATURE = setting("curvature")
LLM_JEPA_L2 = setting("llm_jepa", {"distance": "l2"})
LLM_JEPA_MSE = setting("llm_jepa", {"distance": "mse"})
LLM_JEPA_INFONCE = setting("llm_jepa", {"distance": "infonce"})
LLM_JEPA_REVERSE = setting("llm_jepa", {"reverse": True})

#: Every arm that the papers have -> its name there.
NAMES = {
    NTP: "NTP",
    LLM_JEPA: "LLM-JEPA",
    STP: "STP",
    ZERO: "Zero",
    PREDICTOR: "Pred",
    INSTRUCTION: "Inst",
    TWO_VIEW: "Two-view",
    TWO_VIEW_WARM_UP: "Two-view with warm-up",
    TWO_VIEW_PREDICTOR: "Two-view Pred",
    TWO_VIEW_MEAN: "Two-view Mean",
    MASK: "Mask",
    MASK_FULL: "Mask Full",
    MASK_INSTRUCTION: "Mask Inst",
    MASK_INSTRUCTION_FULL: "Mask Inst+Recov",
    CURVATURE: "Curvature",
    LLM_JEPA_L2: "LLM-JEPA l2",
    LLM_JEPA_MSE: "LLM-JEPA MSE",
    LLM_JEPA_INFONCE: "LLM-JEPA InfoNCE",
    LLM_JEPA_REVERSE: "LLM-JEPA Code to Text",
}

#: The model of everything that names none.
MAIN_MODEL = "Llama-3.2-1B"
#: The last part of a model's name on the hub -> its name in the tables below.
MODELS = {
    "Llama-3.2-1B-Instruct": MAIN_MODEL,
    "Llama-3.2-3B-Instruct": "Llama-3.2-3B",
    "Llama-3.1-8B-Instruct": "Llama-3.1-8B",
    "gemma-2-2b-it": "Gemma-2-2b",
    "OpenELM-1_1B-Instruct": "OpenELM-1.1B",
    "OLMo-2-0425-1B-Instruct": "OLMo-2-1B",
    "OLMo-2-1124-7B-Instruct": "OLMo-2-7B",
    "Qwen3-1.7B": "Qwen3-1.7B",
    "DeepSeek-R1-Distill-Qwen-1.5B": "R1-Distill-Qwen-1.5B",
}


def paper_model(model: str) -> str:
    """The paper's name of a model; its main one for a model that it does not have."""
    return MODELS.get(model.rstrip("/").rsplit("/", 1)[-1], MAIN_MODEL)


#: (task, model) -> method -> accuracy: the main table, drawn as Figure 5a, the ablations (Figure
#: 8), and the other models of LLM-JEPA.
ACCURACY: dict[tuple[str, str], dict[Setting, Accuracy]] = {
    ("nl-rx-synth", MAIN_MODEL): {
        NTP: (57.29, 5.32),
        LLM_JEPA: (71.46, 1.34),
        STP: (84.29, 0.36),
        ZERO: (83.80, 0.62),
        PREDICTOR: (81.93, 1.05),
        INSTRUCTION: (76.11, 1.66),
        TWO_VIEW_WARM_UP: (81.58, 0.89),
        TWO_VIEW: (81.39, 0.65),
        TWO_VIEW_PREDICTOR: (80.54, 0.49),
        TWO_VIEW_MEAN: (76.07, 0.73),
        MASK_FULL: (74.14, 3.45),
        MASK_INSTRUCTION_FULL: (71.98, 1.60),
        MASK_INSTRUCTION: (69.42, 0.97),
        MASK: (66.10, 2.70),
        LLM_JEPA_L2: (2.22, None),
        LLM_JEPA_MSE: (70.64, None),
        LLM_JEPA_INFONCE: (34.40, 6.10),
        LLM_JEPA_REVERSE: (65.70, None),
    },
    ("nl-rx-turk", MAIN_MODEL): {NTP: (22.49, 1.91), LLM_JEPA: (30.94, 1.13), STP: (41.16, 0.30)},
    ("gsm8k", MAIN_MODEL): {NTP: (32.36, 0.58), LLM_JEPA: (36.36, 0.20), STP: (36.60, 0.53)},
    ("spider", MAIN_MODEL): {NTP: (47.52, 2.44), LLM_JEPA: (50.55, 2.08), STP: (56.78, 0.68)},
    ("nq-open", MAIN_MODEL): {NTP: (20.12, 0.41), LLM_JEPA: (21.59, 0.40), STP: (26.59, 0.65)},
    ("hellaswag", MAIN_MODEL): {NTP: (27.93, 0.46), LLM_JEPA: (35.22, 2.09), STP: (36.67, 0.44)},
    ("nl-rx-synth", "Gemma-2-2b"): {NTP: (33.65, 3.24), LLM_JEPA: (43.12, 2.61)},
    ("nl-rx-synth", "OpenELM-1.1B"): {NTP: (12.07, 1.81), LLM_JEPA: (25.40, 2.40)},
    ("nl-rx-synth", "OLMo-2-1B"): {NTP: (87.09, 0.36), LLM_JEPA: (87.52, 0.29)},
    ("nl-rx-synth", "OLMo-2-7B"): {NTP: (87.26, 0.27), LLM_JEPA: (87.75, 0.33)},
    ("nl-rx-synth", "Llama-3.2-3B"): {NTP: (74.55, 3.58), LLM_JEPA: (77.16, 3.66)},
    ("nl-rx-synth", "Llama-3.1-8B"): {NTP: (35.77, 6.60), LLM_JEPA: (63.57, 16.81)},
    ("gsm8k", "Qwen3-1.7B"): {NTP: (44.32, 0.39), LLM_JEPA: (45.00, 0.40)},
    ("gsm8k", "R1-Distill-Qwen-1.5B"): {NTP: (13.87, 1.01), LLM_JEPA: (15.04, 0.15)},
}
#: Figure 5b as others read it off the image, where no number is printed. Its bars of Qwen3 and R1
#: are left out: those of the other arms there contradict what LLM-JEPA prints.
ESTIMATES: dict[tuple[str, str], dict[Setting, Accuracy]] = {
    ("nl-rx-synth", "Gemma-2-2b"): {STP: (57.5, 12.0)},
    ("nl-rx-synth", "OpenELM-1.1B"): {STP: (39.5, 12.0)},
    ("nl-rx-synth", "OLMo-2-1B"): {STP: (89.0, None)},
}

#: Table 1, of NL-RX-SYNTH: the right answer's ending -> method -> accuracy; apparently one run.
ENDINGS = {
    "ending in .*": {NTP: 29.9, LLM_JEPA: 68.9, STP: 88.5},
    "ending in .*.*": {NTP: 28.0, LLM_JEPA: 32.0, STP: 68.0},
}

#: Table 2, and the weights of the main table: task -> model -> the best weight of the tube.
BEST_WEIGHTS = {
    "nl-rx-synth": {
        MAIN_MODEL: 0.02,
        "Gemma-2-2b": 0.005,
        "Qwen3-1.7B": 0.02,
        "R1-Distill-Qwen-1.5B": 0.04,
        "OLMo-2-1B": 0.01,
        "OpenELM-1.1B": 0.04,
        "Llama-3.2-3B": 0.01,
        "Llama-3.1-8B": 0.0025,
    },
    "nl-rx-turk": {MAIN_MODEL: 0.04},
    "gsm8k": {MAIN_MODEL: 0.005},
    "spider": {MAIN_MODEL: 0.04},
    "nq-open": {MAIN_MODEL: 0.16},
    "hellaswag": {MAIN_MODEL: 0.02},
}

#: Table -> (better, worse) -> p of a paired one-sided t-test over five seeds: 4 between families, 5
#: within them. Table 5 also has curvature against signed curvature, which are the same.
P_VALUES = {
    "4": {
        (STP, TWO_VIEW): 1.14e-3,
        (STP, MASK): 1.77e-3,
        (STP, CURVATURE): 3.04e-5,
        (TWO_VIEW, MASK): 4.76e-3,
        (TWO_VIEW, CURVATURE): 5.10e-5,
        (MASK, CURVATURE): 1.28e-4,
    },
    "5": {
        (STP, ZERO): 0.0534,
        (STP, PREDICTOR): 2.03e-3,
        (STP, INSTRUCTION): 2.34e-4,
        (TWO_VIEW_WARM_UP, TWO_VIEW): 0.265,
    },
}

#: Fraction of NL-RX-SYNTH -> method -> accuracy: the only printed points of the curve.
FRACTIONS = {1 / 16: {STP: 56.34}, 1.0: {NTP: 57.29}}
