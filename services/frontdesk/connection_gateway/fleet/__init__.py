"""The fleet of gateways as each of them sees it."""
