"""The evidence: pure functions from counts to log e-values and intervals, valid at every look.

A log e-value is natural-logarithmic evidence against a null hypothesis. Reject at level alpha as
soon as it reaches log(1 / alpha); under the null that ever happens with probability at most alpha,
however often one looks. No data is log_e 0: no evidence, neither way.

================ ===============================================================
module           question
================ ===============================================================
`stages`         what was counted, per stretch of constant allocation
`binary`         does success depend on the arm?
`events`         do events come at different rates in the two arms?
`bounded`        do mean scores on a declared grid differ?
`betting`        the same for one arm: is its mean what was claimed?
`means`          do means differ?
`covariate`      how much of the spread was known before (CUPED)?
`ratio`          does one sum over another differ, seen by groups of units?
`quantiles`      do quantiles of times differ?
`proportion`     is one arm's rate below a bound, and where does it lie?
`paired`         of two answers to the same request, which is bad more often?
`sample_ratio`   did the arms receive the shares they were promised?
`combine`        what do several e-values say together, and which stand alone?
`effects`        how large is the difference in rates?
---------------- ---------------------------------------------------------------
`spending`       from which z-score on has a bounded test spoken?
`designs`        which drift does a sequence of boundaries find, and how soon?
`planning`       how much sample takes each mode, beside a fixed horizon?
`power`          how much sample takes a fixed horizon?
`fixed_horizon`  what would a test say that is looked at once?
`published`      what would other engines say?
---------------- ---------------------------------------------------------------
`intervals`      what an interval is, and how a test is inverted into one
`contrast`       two estimates with errors, against a linear null
`mixture`        normal and t mixtures over effects
`moments`        counts, means and squared deviations that merge
`latency_grid`   edges that never change, for times
`woodruff`       the ratio of two quantiles, with an error
`histogram`      times counted on that grid
`quantile_bets`  beta-binomial bets on both arms of a histogram
`least_evidence` the edge with the least of it, without looking at every one
`rate_ratio`     the likelihood of one rate ratio in all stages
`tuning`         how wide a mixture should be
`normal`         normal tails that do not underflow
`brownian`       one step of the recursion over looks
`bands`          how far counts and distributions stray
`beta`           incomplete beta integrals that neither underflow nor cancel
`beta_arrays`    the same for many at once
`quadrature`     nodes and weights, and integrals of log-concave functions
================ ===============================================================
"""
