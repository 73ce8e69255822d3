"""Parity: comparing two streams of StepRecords, live or stored. Nothing here knows a recipe."""
