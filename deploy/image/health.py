"""HEALTHCHECK of the image: exit status 0 where lists can be asked for.

    health.py [PORT [PATH]]    # RANKLINE_PORT and /api/v1/ready

By HTTP, since the port takes connections before a worker answers. Without urllib, which would ask a proxy.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException


def main(port: int, path: str) -> int:
    """0 where the path is answered with 200; else 1, and the reason is printed."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        print(answer.status, answer.read(1000).decode("utf-8", "replace"))
        return 0 if answer.status == 200 else 1
    except (OSError, HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    port, path = [*sys.argv[1:], *("", "")][:2]
    sys.exit(main(int(port or os.environ.get("RANKLINE_PORT") or 8001), path or "/api/v1/ready"))
