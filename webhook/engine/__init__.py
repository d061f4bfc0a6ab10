"""From a review to its verdict: gather facts once, run pure rules, answer once."""
