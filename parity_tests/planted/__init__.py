"""Planted bugs: single faults put into a run from outside, and how many of them the search finds and names.

The faults of the torch side change a stack after it was made; those of the Julia side are files that redefine methods
of PyganFlux, Flux or Optimisers. Recipes and stacks know nothing of either. ``python -m planted.score`` (inside
``parity_tests``) prints the score.
"""
