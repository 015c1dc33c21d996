"""``python -m pdebench_fm.cli``."""

from pdebench_fm.cli import main

main()
