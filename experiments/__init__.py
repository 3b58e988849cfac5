"""WHAT an experiment is, what it has shown, and what to do next: pure, but for `store/`."""
