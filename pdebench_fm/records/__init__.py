"""Result records: their form, the file they are kept in, and the scores that are made from them."""

from pdebench_fm.records.file import append, collect, read, read_lines
from pdebench_fm.records.record import SCHEMA, Cell, Record, TrialRecord

__all__ = ["SCHEMA", "Cell", "Record", "TrialRecord", "append", "collect", "read", "read_lines"]
