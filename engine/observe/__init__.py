"""Steps 3 and 4, absorb and close: knows calls and series, knows nothing of limits."""
