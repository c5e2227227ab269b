"""``crosstalk grade``: submissions that cannot be trusted, graded safely and fast."""
