"""Parity: comparing two streams of StepRecords, live or stored. Nothing here knows a recipe
(``noise`` measures on the shipped traces of one)."""
