"""A command of a shell that a fork server runs; it starts in milliseconds.

`FORK_SERVER` is the address of the server. Its own streams are those of the command, its exit status too.
"""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as channel:
    channel.connect(os.environ["FORK_SERVER"])
    program = [os.path.basename(sys.argv[0]), *sys.argv[1:]]  # noqa: PTH119 (pathlib takes longer to import)
    request = json.dumps({"program": program, "env": dict(os.environ), "cwd": os.getcwd()}).encode() + b"\n"  # noqa: PTH109
    channel.sendall(request[socket.send_fds(channel, [request], [0, 1, 2]) :])
    _, status = channel.makefile("r")
os._exit(int(status) & 255)
