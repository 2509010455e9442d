"""The protocol without I/O: text and bytes in, events and text out.

Nothing here waits, opens or reads a clock.
"""
