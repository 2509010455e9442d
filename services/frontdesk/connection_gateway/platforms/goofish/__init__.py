"""Goofish (Xianyu).

Everything this package knows about the platform is the observed behaviour of public client implementations;
references in parentheses such as (A13) number those facts.
"""
