"""Benchmarks: how fast each stack runs a recipe, and where the time goes. No time is shown without a verdict.

A *row* is one way of running the recipe (:mod:`~pygan.benchmarking.rows`), always in a process of its own
(:mod:`~pygan.benchmarking.process`, :mod:`~pygan.benchmarking.child`). A *group* is what is compared: the same work on
the same cores by several rows, sampled in random rounds (:mod:`~pygan.benchmarking.rounds`). A *report* is the
result (:mod:`~pygan.benchmarking.report`): raw samples, verdicts, ratios with intervals, the floor, the environment.
"""
