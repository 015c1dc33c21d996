"""``python -m pdebench_fm.cli``."""

from pdebench_fm.cli import main

if __name__ == "__main__":
    main()
