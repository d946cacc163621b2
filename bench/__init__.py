"""``make bench``: what the whole platform does per second and costs per recipient, beside what a bare loop does.

Told in ``docs/benchmarks.md``. Everything here is a client of a platform that ``koinonia up`` runs.
"""
