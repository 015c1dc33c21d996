"""Compare records to the digit: python -m tests.support.same_records RUNS RUNS. Times and commits may differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_MAY_DIFFER = {"train_seconds", "data_seconds", "commit", "created"}


def read(output: Path) -> list[dict[str, Any]]:
    """Read all records under a folder, in a fixed order and without what may differ."""
    lines = [line for path in output.rglob("records.jsonl") for line in path.read_text().splitlines()]
    return sorted(map(_fixed, map(json.loads, lines)), key=lambda record: json.dumps(record, sort_keys=True))


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fixed(part) for key, part in value.items() if key not in _MAY_DIFFER}
    return [_fixed(part) for part in value] if isinstance(value, list) else value


def main(*outputs: str) -> int:
    first, *others = (read(Path(output)) for output in outputs)
    if not first:
        print(f"{outputs[0]}: no records", file=sys.stderr)
        return 1
    for output, records in zip(outputs[1:], others, strict=True):
        different = [one for one, other in zip(first, records, strict=False) if one != other]
        if different or len(first) != len(records):
            print(f"{output}: {len(different)} of {len(first)} records differ, {len(records)} found", file=sys.stderr)
            return 1
    print(f"{len(first)} equal records in {' and '.join(outputs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
