"""Servicers: validate, call, let the kit map errors."""
