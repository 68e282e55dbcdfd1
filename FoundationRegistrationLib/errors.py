"""Errors a clinician can read: each message is one line and says what to do."""


class FoundationRegistrationError(Exception):
    """Base class of the errors that this library raises."""


class InputError(FoundationRegistrationError):
    """A volume, mask, label map, landmark list or transform cannot be used as given."""


class SettingsError(FoundationRegistrationError):
    """A setting, preset or encoder name is unknown or out of range."""


class WeightsError(FoundationRegistrationError):
    """The weights of an encoder are missing, damaged or belong to another network."""


class OutputError(FoundationRegistrationError):
    """A result cannot be written."""


class RegistrationCancelledError(FoundationRegistrationError):
    """The user cancelled the run; nothing was written."""
