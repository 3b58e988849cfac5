"""The evidence: pure functions from counts to log e-values and intervals, valid at every look.

A log e-value is natural-logarithmic evidence against a null hypothesis. Reject at level alpha as
soon as it reaches log(1 / alpha); under the null that ever happens with probability at most alpha,
however often one looks. No data is log_e 0: no evidence, neither way.

=============== ==============================================================
module          question
=============== ==============================================================
`stages`        what was counted, per stretch of constant allocation
`binary`        does success depend on the arm?
`events`        do events come at different rates in the two arms?
`proportion`    is one arm's rate below a bound, and where does it lie?
`sample_ratio`  did the arms receive the shares they were promised?
`combine`       what do several e-values say together, and which stand alone?
`effects`       how large is the difference?
`intervals`     what an interval is, and how a test is inverted into one
`rate_ratio`    the likelihood of one rate ratio in all stages
`tuning`        how wide a mixture should be
`beta`          incomplete beta integrals that neither underflow nor cancel
`quadrature`    nodes and weights, and integrals of log-concave functions
=============== ==============================================================
"""
