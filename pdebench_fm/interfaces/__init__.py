"""The interfaces that systems, samplers, models, protocols, metrics and executors implement, one small file each."""

from pdebench_fm.interfaces.examples import Examples, Ids
from pdebench_fm.interfaces.executor import Executor, Report
from pdebench_fm.interfaces.metric import Metric
from pdebench_fm.interfaces.operator_model import Budget, FitContext, FitReport, OperatorModel, Progress, Trial
from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.interfaces.sampler import SPLITS, Parameters, Sampler, Split
from pdebench_fm.interfaces.transfer_protocol import TransferProtocol

__all__ = [
    "SPLITS",
    "Budget",
    "Examples",
    "Executor",
    "FitContext",
    "FitReport",
    "Ids",
    "Metric",
    "OperatorModel",
    "PDESystem",
    "Parameters",
    "Progress",
    "Report",
    "Sampler",
    "Split",
    "TransferProtocol",
    "Trial",
]
