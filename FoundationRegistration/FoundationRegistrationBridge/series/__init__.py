"""Contrast series: the sequence, its registration, and what is made from a registered one."""
