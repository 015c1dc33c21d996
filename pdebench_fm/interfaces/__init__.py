"""The interfaces that systems, samplers, models, protocols, metrics and executors implement, one small file each."""

from pdebench_fm.interfaces.examples import Examples, Ids
from pdebench_fm.interfaces.executor import (
    Queue,
    QueuedJob,
    Schedules,
    Task,
    environment_of_workers,
    is_saved,
    save_soon,
)
from pdebench_fm.interfaces.metric import Metric
from pdebench_fm.interfaces.objective import Objective
from pdebench_fm.interfaces.operator_model import Budget, FitContext, FitReport, OperatorModel, Progress, TrialSettings
from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.interfaces.sampler import SPLITS, Parameters, Sampler, Split
from pdebench_fm.interfaces.transfer_protocol import TransferProtocol

__all__ = [
    "SPLITS",
    "Budget",
    "Examples",
    "FitContext",
    "FitReport",
    "Ids",
    "Metric",
    "Objective",
    "OperatorModel",
    "PDESystem",
    "Parameters",
    "Progress",
    "Queue",
    "QueuedJob",
    "Sampler",
    "Schedules",
    "Split",
    "Task",
    "TransferProtocol",
    "TrialSettings",
    "environment_of_workers",
    "is_saved",
    "save_soon",
]
