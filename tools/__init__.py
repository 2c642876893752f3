"""Helpers of the tests and benchmarks, which are not part of the product's wheel."""
