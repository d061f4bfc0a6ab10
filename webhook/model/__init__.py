"""The keys, and the frozen values that everything speaks of."""
