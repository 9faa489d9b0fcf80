"""A real fleet on one Linux machine, for the demo and the tests."""
