"""Numbers of the paper's figures, for drawing beside ours.

The paper prints none of them. They were read off the vector coordinates of the figures of
arXiv 2605.27734v1 (CC BY 4.0), accurate to one or two per cent; accuracies are shares of 1,
thresholds P* are numbers of strings at 50 %.

Letters as in the paper: v symbols, m rules for each, s children, L levels, P strings, f the
fraction of tuples that are grammatical.
"""

from __future__ import annotations

#: Figure 3 left: v = 8, s = 3, L = 5, k-means, 3 grammars a point. m -> P*.
ILC_SIZES = {"num_features": 8, "branching": 3, "depth": 5}
ILC_THRESHOLDS = {6: 3.5e3, 8: 7.4e3, 12: 12e3, 16: 41e3, 22: 231e3, 32: 572e3}
#: Its grid: 16 log-spaced points from 512 to 300 v m^3, for 3 grammars.
ILC_GRID = {"first": 512, "last_over_vm3": 300, "num_points": 16, "num_grammars": 3}

#: Figure 3 right: v = 10, s = 3, L = 4, root probe. m -> P*.
SLC_SIZES = {"num_features": 10, "branching": 3, "depth": 4}
SLC_THRESHOLDS = {7: 3.3e3, 8: 3.4e3, 10: 6.1e3, 12: 10e3, 15: 21e3}
#: Its grid: 11 log-spaced points from 0.1 to 5 v m^3.
SLC_GRID = {"first_over_vm3": 0.1, "last_over_vm3": 5, "num_points": 11}

#: Figure 4: data2vec, v = 16, s = 2, L = 4, online, MLP probe. m -> P*.
DATA2VEC_SIZES = {"num_features": 16, "branching": 2, "depth": 4}
DATA2VEC_ONLINE_THRESHOLDS = {3: 5.5e6, 4: 1.27e7, 5: 1.83e7, 6: 3.6e7, 7: 6.0e7}
#: Figure 14: the same offline (P unique strings). P* over v m^3: m -> (linear probe, MLP probe).
DATA2VEC_OFFLINE_LINEAR = {3: 5.8e3, 4: 3.0e4, 5: 6.4e4, 6: 1.35e5, 7: 2.0e5}
DATA2VEC_OFFLINE_MLP_OVER_VM3 = {3: 12.0, 4: 25.0, 5: 29.0, 6: 32.0, 7: 37.0}

#: Figure 5: synonym score at the end of training, the range over m = 3..7. l -> (low, high).
SCORE_AT_END = {1: (0.56, 0.76), 2: (0.27, 0.54), 3: (0.02, 0.14)}
#: Figure 13 left: synonym score by layer 0..7 after training, m = 6. l -> scores.
SCORE_BY_LAYER = {
    1: (0.19, 0.26, 0.37, 0.31, 0.21, 0.08, 0.05, 0.04),
    2: (-0.01, 0.12, 0.28, 0.25, 0.16, 0.06, 0.02, 0.03),
    3: (0.0, 0.0, 0.13, 0.09, 0.06, 0.03, 0.03, 0.02),
    4: (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}
#: Figure 13 right: probe accuracy of a random network's targets. l -> {m: accuracy}.
RANDOM_NETWORK_ACCURACY = {
    2: {3: 0.75, 4: 0.46, 5: 0.30, 6: 0.23, 7: 0.18},
    3: {3: 0.46, 4: 0.20, 5: 0.12, 6: 0.10, 7: 0.09},
    4: {3: 0.21, 4: 0.10, 5: 0.08, 6: 0.07, 7: 0.07},
}

#: Figure 9: v = 10, m = 10, s = 3, L = 4. Arm -> {P: accuracy}.
LOCAL_LEARNING = {
    "EMA": {4781: 0.29, 7071: 0.65, 10456: 0.95, 15462: 0.98},
    "EMA, stop between modules": {4781: 0.12, 7071: 0.39, 10456: 0.96, 15462: 1.0},
    "no EMA, stop between modules": {4781: 0.10, 7071: 0.10, 10456: 0.10, 15462: 0.10},
    "no EMA, stop everywhere": {4781: 0.13, 7071: 0.20, 10456: 0.97, 15462: 1.0},
}

#: Figure 10: L = 7, P = 9797. Layer -> epoch at which its accuracy crosses 50 %.
LAYER_CROSSINGS = {1: 1.3, 2: 4.3, 3: 5.5, 4: 7.2, 5: 8.7, 6: 11.3}

#: Figure 12: v = 16, m = 8, s = 3, root probe. L -> {P: accuracy}.
DEPTH_SWEEP = {
    3: {4451: 0.51, 5421: 0.41, 8043: 0.93, 9798: 0.95},
    4: {4451: 0.58, 5421: 0.72, 8043: 0.94, 9798: 0.97},
    5: {4451: 0.50, 5421: 0.81, 8043: 0.95, 9798: 0.99},
    6: {4451: 0.16, 5421: 0.83, 8043: 0.94, 9798: 0.97},
    7: {4451: 0.18, 5421: 0.65, 8043: 0.84, 9798: 0.98},
}
