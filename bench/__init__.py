"""Benchmarks: one file per question; `bench.harness` is what they share, `bench.smoke` prints the budgets."""
