"""Errors of the bridge: one line each, for the person at the screen, saying what to do."""


class BridgeError(Exception):
    """Nodes cannot be used as chosen, or a registration did not end well; the scene is as it was before."""


class CancelledError(BridgeError):
    """The user cancelled the registration; the scene is as it was before."""
