"""Finished runs side by side, without a verdict: ``reading`` finds them, ``compare`` sets them beside each
other, ``table`` and ``files`` show that.

A further piece (a score of a run, say) is a field of :class:`~pygan.comparison.compare.Comparison` and a block of
``table``; nothing here counts on there being two runs.
"""
