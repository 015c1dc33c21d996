"""Compare records to the digit: python -m tests.support.same_records RUNS RUNS. Times and commits may differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pdebench_fm.records.file import collect

_MAY_DIFFER = {"train_seconds", "data_seconds", "inference_seconds", "peak_memory", "commit", "created"}


def read(output: Path) -> list[dict[str, Any]]:
    """Read the newest record of each place under a folder, in a fixed order and without what may differ."""
    newest = {record.place: record for _, record in collect([output])}
    found = [_fixed(record.model_dump(mode="json")) for record in newest.values()]
    return sorted(found, key=lambda record: json.dumps(record, sort_keys=True))


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fixed(part) for key, part in value.items() if key not in _MAY_DIFFER}
    return [_fixed(part) for part in value] if isinstance(value, list) else value


def main(*arguments: str) -> int:
    first, *others = (read(Path(output)) for output in arguments)
    if not first:
        print(f"{arguments[0]}: no records", file=sys.stderr)
        return 1
    for output, found in zip(arguments[1:], others, strict=True):
        different = [one for one, other in zip(first, found, strict=False) if one != other]
        if different or len(first) != len(found):
            print(f"{output}: {len(different)} of {len(first)} records differ, {len(found)} found", file=sys.stderr)
            return 1
    print(f"{len(first)} equal records in {' and '.join(arguments)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
