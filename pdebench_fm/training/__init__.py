"""What every torch network shares: the loop, input normalisation, checkpoints and the base class.

Plugins import `NetworkModel`, `InputNormalisation` and `planes` from here.
"""

from pdebench_fm.training.network_model import NetworkModel, planes
from pdebench_fm.training.normalisation import InputNormalisation

__all__ = ["InputNormalisation", "NetworkModel", "planes"]
