"""The explorer in a browser: a helper to start both, and the tests of ``make test-browser``."""
