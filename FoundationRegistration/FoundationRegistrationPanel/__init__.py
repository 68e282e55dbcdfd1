"""The parts of the panel: what the user chooses, what is said about it, running a registration and looking at it.

`FoundationRegistration.py` puts them together. Importing this package loads neither torch nor SimpleITK.
"""
