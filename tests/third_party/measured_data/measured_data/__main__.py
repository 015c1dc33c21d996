"""``python -m measured_data``."""

from pathlib import Path

from measured_data.files import write

write(Path(__file__).parent)
