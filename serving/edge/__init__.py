"""The edge: HAProxy in the request's way, and what is needed to run it and listen to it.

`config` renders `haproxy.cfg`, whose `route.lua` does per request what `experiments.assignment`
and `experiments.prediction` define; `runtime` changes routes while it runs; `logline` reads
what it says about every request.
"""
