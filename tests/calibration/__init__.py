"""Is the evaluator as right, and as quick, as it says? Simulated, through its own decisions.

`python -m tests.calibration` generates experiments in which the truth is known, looks at each after
every batch, and counts how often the engine is wrong and how long it takes. It writes
`docs/calibration.md` and `docs/calibration.png`, and fails if a bar is missed.
"""
