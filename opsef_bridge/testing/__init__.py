"""Conformance suites: classes of pytest tests that a new step, reader or engine inherits."""
