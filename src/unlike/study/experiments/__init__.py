"""What one run of a study does. One line a kind; add your own to EXPERIMENTS to name it in a plan."""

from __future__ import annotations

from unlike.study.experiments.base import Choices, Experiment, Outcome, Task
from unlike.study.experiments.detectors import FIT_AND_EVALUATE
from unlike.study.experiments.equilibrium import EQUILIBRIUM
from unlike.study.experiments.joint import JOINT_OR_SEPARATE
from unlike.study.experiments.pretraining import PRETRAINING
from unlike.study.experiments.thresholds import THRESHOLDS

EXPERIMENTS: dict[str, Experiment] = {
    "equilibrium": EQUILIBRIUM,
    "fit-and-evaluate": FIT_AND_EVALUATE,
    "joint-or-separate": JOINT_OR_SEPARATE,
    "pretraining": PRETRAINING,
    "thresholds": THRESHOLDS,
}

__all__ = ["EXPERIMENTS", "Choices", "Experiment", "Outcome", "Task"]
