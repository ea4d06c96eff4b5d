"""Who can reach the demo, which decides what of this machine it shows."""

import ipaddress


def only_this_machine(address: str | None) -> bool:
    """Tell whether a server can be reached from this machine alone.

    Args:
        address: Where it listens, as in Streamlit's `server.address`; None or "" for everywhere.
    """
    if not address:
        return False
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False
