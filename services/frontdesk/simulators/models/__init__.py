"""Model providers that behave, for demo, tests and benches: server.py serves, script.py says how."""
