"""``python -m pdebench_fm``, the command ``pdefm`` where it is not on the path."""

from pdebench_fm.cli import main

if __name__ == "__main__":
    main()
