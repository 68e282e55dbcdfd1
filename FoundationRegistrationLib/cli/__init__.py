"""The command line: arguments and actions of each command."""
