"""What would happen: a declared experiment on generated traffic, through the real `decide`.

Everything here is a pure function of the declaration, of what is supposed to be true, and of a
random generator. Nothing is approximated on the way to a decision: units are divided by the shares
of the stage, outcomes are drawn unit by unit or counted by their exact distribution, the evidence
is what the store would have given, and the experiment moves as the controller moves it.

Examples:
    >>> import numpy as np
    >>> from experiments.spec import read_declaration
    >>> declared = read_declaration('''
    ... name: colour
    ... model: button
    ... challenger: 2
    ... unit: request
    ... share: [50%]
    ... goal: {metric: clicked, direction: increase, min_effect: 10%, baseline: 20%}
    ... ''')
    >>> run = simulate(
    ...     declared, Truth(effect=1.0), rng=np.random.default_rng(1), batch=200, most_units=20_000
    ... )
    >>> run.end, run.winner, run.culprits
    (<End.PROMOTED: 'promoted'>, 2, ('clicked',))
"""

from experiments.simulation.extent import Extent, extent_of
from experiments.simulation.run import End, Point, Reached, Run, simulate
from experiments.simulation.summary import Share, Spread, Summary, exact_share, summarise
from experiments.simulation.truth import Origin, Premise, Truth, premises

__all__ = [
    "End",
    "Extent",
    "Origin",
    "Point",
    "Premise",
    "Reached",
    "Run",
    "Share",
    "Spread",
    "Summary",
    "Truth",
    "exact_share",
    "extent_of",
    "premises",
    "simulate",
    "summarise",
]
