"""Errors of the bridge: one line each, for the user, with advice."""


class BridgeError(Exception):
    """Nodes cannot be used as chosen, or a registration failed; the scene is unchanged."""


class CancelledError(BridgeError):
    """The user cancelled the registration; the scene is unchanged."""
