"""The parts of the panel: parameters, messages, running a registration and viewing its result.

`FoundationRegistration.py` combines them. Importing this package loads neither torch nor SimpleITK.
"""
