"""Python runs a module of this name when it starts: here it notes whatever would leave the machine.

A test puts this folder into a process's PYTHONPATH, and the file to note it in into WATCHED.
"""

import ipaddress
import os
import sys


def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in (None, "localhost") and not ipaddress.ip_address(host).is_loopback:
        with open(os.environ["WATCHED"], "a") as file:  # noqa: PTH123 (loads nothing that is not loaded at the start)
            print(event, host, file=file)


sys.addaudithook(watch)
