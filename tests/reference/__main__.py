"""Check the engine against a file of reference cases: python -m tests.reference FILE"""

import sys
from pathlib import Path

from tests.reference.check import check_file, report


def main(arguments: list[str]) -> int:
    """Print what was checked per area; fail if anything differs."""
    if len(arguments) != 1:
        print(__doc__)  # noqa: T201
        return 2
    try:
        results = check_file(Path(arguments[0]))
    except (OSError, ValueError) as error:
        print(f"{arguments[0]} holds no reference cases: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(report(results))  # noqa: T201
    return 1 if any(result.mismatches for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
