"""Addresses that a server of the commands listens on."""

import argparse
import ipaddress
import socket

from .arguments import UsageError, positive


def check_address(host: str, port: int | None) -> None:
    """
    Checks, before a model is loaded, whether a server can listen there.

    Args:
        host (`str`): Name or number of an address.
        port (`int`, *optional*): `None` where any port will do.

    Raises:
        UsageError: It cannot.
    """
    bound_socket(host, port).close()


def bound_socket(host: str, port: int | None) -> socket.socket:
    """
    A socket at an address, which does not listen yet.

    Raises:
        UsageError: There is no such address, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        place = socket.socket(family, kind)
        try:
            # As servers do: an address whose connections have just ended is free.
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(address)
        except OSError:
            place.close()
            raise
    except socket.gaierror:
        raise UsageError(f"--host {host}: this is no address of this machine.") from None
    except OSError as error:
        if not port:
            raise UsageError(f"--host {host}: {error.strerror}; use 127.0.0.1.") from None
        raise UsageError(
            f"--port {port} on {host}: {error.strerror}; choose another port, or leave --port out."
        ) from None
    return place


def is_loopback(place: socket.socket) -> bool:
    """Whether a socket can be reached from this machine alone."""
    return ipaddress.ip_address(place.getsockname()[0].partition("%")[0]).is_loopback


def port(text: str) -> int:
    """A port from 1."""
    value = positive(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 65535")
    return value
