"""A service for the tests and benches of the kit's calls."""
