"""Calls passing through: who with whom, in what state, why each ended, and what was decided on the way."""
