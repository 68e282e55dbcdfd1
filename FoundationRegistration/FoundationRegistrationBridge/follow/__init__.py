"""Nodes that a finished registration carries along, in either direction."""
