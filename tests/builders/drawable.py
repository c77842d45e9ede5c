"""Evidence of a run that every plot has something to draw from."""

from core.plots import Evidence

STEP = {
    "kind": "forget", "accepted": True, "yardstick": 2.0, "kappa": 0.2, "kappa_1": -0.8, "kappa_2": 1.2,
    "forget_capacity": 2.0, "direct": 0.25, "rectified": 0.75, "colinear": 0.0, "infeasible": 0.0,
}  # fmt: skip
ROWS = [
    STEP | {
        "step": 1, "forget_loss": 0.1, "forget_loss_after": 0.5, "retain_loss_after": 0.2,
        "promised_forget_gain": 0.3, "realised_forget_gain": 0.4,
        "predicted_retain_change": -0.1, "realised_retain_change": -0.05,
    },
    STEP | {
        "step": 2, "forget_loss": 0.5, "forget_loss_after": 0.5, "retain_loss_after": 0.2, "accepted": False,
        "promised_forget_gain": 9.0, "realised_forget_gain": -9.0,
        "predicted_retain_change": 9.0, "realised_retain_change": 9.0,
    },
    STEP | {
        "step": 3, "kind": "repair", "forget_loss": 0.5, "forget_loss_after": 0.9, "retain_loss_after": 0.1,
        "promised_forget_gain": 0.5, "realised_forget_gain": 0.25, "forget_capacity": 4.0, "kappa": -1.0,
        "predicted_retain_change": -0.2, "realised_retain_change": -0.1,
    },
]  # fmt: skip
PEER = dict.fromkeys(STEP) | {"step": 1, "forget_loss": 0.1, "forget_loss_after": 0.5, "retain_loss_after": 1}
LAYERS = [
    {"name": "stem", "kappa": -1.0, "cosine": -0.5, "retain_norm": 1.0, "forget_norm": 2.0},
    {"name": "head", "kappa": 1.5, "cosine": 0.25, "retain_norm": 3.0, "forget_norm": 2.0},
]
SCORES = {"edges": [0.0, 1.0, 2.0], "counts": [3, 1]}
METRICS = {
    "before": {"forget": {"loss": 0.1}, "membership_auc": 0.9, "scores": {"forget": SCORES, "holdout": SCORES}},
    "after": {
        "forget": {"loss": 1.9},
        "holdout": {"loss": 2.0},
        "membership_auc": 0.5,
        "scores": {"forget": {"edges": [0.0, 1.0, 2.0], "counts": [0, 4]}, "holdout": SCORES},
    },
    "attacks": {
        "quantisation": {"int8": {"forget_loss": 1.8, "holdout_loss": 2.1}, "int4": {"forget_loss": 1.5}},
        "relearning": {"forget": [1.9, 1.0], "control": [2.0, 1.5]},
    },
}
EVIDENCE = Evidence(ROWS, {"layers": LAYERS}, METRICS)
