"""Runs what is written down for one client, in the environment that has it.

`python -m tests.clients.run MODULE EDGE_URL` prints as JSON what went wrong, by function.
"""

import importlib
import inspect
import json
import sys
import traceback


def main(name: str, url: str) -> None:
    """Call every public function of the module with the edge's address."""
    module = importlib.import_module(f"tests.clients.{name}")
    wrong = {}
    ran = 0
    for what, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ == module.__name__ and not what.startswith("_"):
            ran += 1
            try:
                function(url)
            except Exception:
                wrong[what] = traceback.format_exc()
    print(json.dumps({"ran": ran, "wrong": wrong}))  # noqa: T201  it is what this is for


if __name__ == "__main__":
    main(*sys.argv[1:])
