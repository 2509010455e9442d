"""The vendors' APIs, one file each; base.py says what each can do."""
