"""HAMU, hardness-aware multi-objective unlearning (arXiv 2606.02119): torch and the standard library only.

Read in this order: ``solve`` (the mathematics), ``hardness`` (what it says about a pair of gradients), ``planning``
(from numbers to a step), ``optimizer`` (assess, plan, add), ``gram`` (the two passes over the gradients),
``trust_region`` (choosing the rate), ``parallel`` (the same on many ranks).
"""

from core.hamu.hardness import Hardness, StopRule, Verdict
from core.hamu.ledger import Assessment, Step, StopReason
from core.hamu.optimizer import HAMU, Block, Closure
from core.hamu.parallel import Share
from core.hamu.planning import Variant
from core.hamu.solve import Branch
from core.hamu.trust_region import Decision, TrustRegion

__all__ = [
    "HAMU",
    "Assessment",
    "Block",
    "Branch",
    "Closure",
    "Decision",
    "Hardness",
    "Share",
    "Step",
    "StopReason",
    "StopRule",
    "TrustRegion",
    "Variant",
    "Verdict",
]
