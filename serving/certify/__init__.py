"""Certification: whether the running system finds faults that are planted on purpose.

An A/A and every kind of fault go through what users go through, on a lane that no user meets: the
edge, the hosts, the collector, the store, and the controller that decides. What is asked of the
system is what is asked of it in earnest: no alarm without a fault, no fault without an alarm, and
no request that fails.
"""
