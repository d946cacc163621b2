"""The one error of this package."""


class ServersUnavailable(Exception):
    """A server could not be had. The message is one clear line; a log's last lines may follow it."""
