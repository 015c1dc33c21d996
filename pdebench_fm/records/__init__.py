"""Result records: their form, the file they are kept in, and the scores that are made from them."""

from pdebench_fm.records.file import collect, read_lines
from pdebench_fm.records.record import SCHEMA, Cell, Record, TrialRecord

__all__ = ["SCHEMA", "Cell", "Record", "TrialRecord", "collect", "read_lines"]
