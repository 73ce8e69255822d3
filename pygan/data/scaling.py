"""How bytes become numbers: the scalings by name, without numpy."""

SCALINGS = ("2*x/255-1", "x/127.5-1", "x/255-0.5", "x/255")
"""Each operation is rounded to Float32, from left to right."""
