"""Random faults, seeded, and an oracle: what tests/e2e/test_faults.py is made of.

oracle  what a verdict must be, by the truth before and after the request; asks nobody
truth   what the simulators and the API server say themselves, and since when
load    the requests
chaos   what happens meanwhile
"""
