"""HDF5 files of examples.

A file has ``fields`` (N, inputs + outputs, n, n) float32, with the attributes ``inputs`` and ``outputs`` (JSON lists of
names, by default ``["source"]`` and ``["solution"]``), and ``tensor`` (N, C) float32, with the attribute ``channels``
(JSON list of the constants' names). The file's attribute ``pdefm`` (JSON) describes the examples. Its attribute
``complete`` = 1 is written last. Published files of the paper have the two data sets and no names. The PDE reads their
columns, see `PDESystem.read_columns`.
"""

from pdebench_fm.data.hdf5.layout import published_grid
from pdebench_fm.data.hdf5.reading import HDF5Examples
from pdebench_fm.data.hdf5.summary import FileSummary, inspect
from pdebench_fm.data.hdf5.writing import export

__all__ = ["FileSummary", "HDF5Examples", "export", "inspect", "published_grid"]
