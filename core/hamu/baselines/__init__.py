"""Gradient-level peers of HAMU: each turns a retain and a forget gradient into one gradient for a descent step.

One method a file. Gradients are lists with one tensor a parameter; None stands for zero, and a parameter that has None
on both sides gets None. r is the gradient of the retain loss and f that of the forget loss, both before any change of
sign: forgetting means that the forget loss goes up.
"""

from core.hamu.baselines.gdiff import gdiff
from core.hamu.baselines.gradients import Products
from core.hamu.baselines.gru import gru
from core.hamu.baselines.kl import kl
from core.hamu.baselines.pcgrad import pcgrad
from core.hamu.baselines.scrub import scrub

__all__ = ["Products", "gdiff", "gru", "kl", "pcgrad", "scrub"]
