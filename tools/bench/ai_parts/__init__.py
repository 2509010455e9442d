"""Parts of tools/bench/ai.py."""
