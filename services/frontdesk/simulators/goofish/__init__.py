"""A marketplace that behaves like Goofish: for the demo, tests and benches. control.py has its own API."""
