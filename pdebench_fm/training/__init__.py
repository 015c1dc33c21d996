"""What all torch networks share: the base class, the training loop, input normalisation and checkpoints.

Use `NetworkModel` for a network of your own, and `fit_network` for a model that is something else, e.g. an adapter of a
released checkpoint.
"""

from pdebench_fm.training.loop import ParameterGroup, fit_network
from pdebench_fm.training.network_model import NetworkModel, planes
from pdebench_fm.training.normalisation import InputNormalisation
from pdebench_fm.training.recipe import Recipe
from pdebench_fm.training.torchrun import launch

__all__ = ["InputNormalisation", "NetworkModel", "ParameterGroup", "Recipe", "fit_network", "launch", "planes"]
