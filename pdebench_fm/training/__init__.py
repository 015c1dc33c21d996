"""What every torch network shares: the loop, input normalisation, checkpoints and the base class.

Plugins import `NetworkModel`, `InputNormalisation` and `planes` from here, and `fit_network` where a model is no
`NetworkModel`, e.g. a released checkpoint behind its adapter.
"""

from pdebench_fm.training.loop import fit_network
from pdebench_fm.training.network_model import NetworkModel, planes
from pdebench_fm.training.normalisation import InputNormalisation

__all__ = ["InputNormalisation", "NetworkModel", "fit_network", "planes"]
