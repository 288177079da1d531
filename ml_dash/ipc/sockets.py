"""What every socket to a process of ours is used with."""

from __future__ import annotations

import socket

NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
"""Flag for what is sent to a process that may be gone: a program that lets SIGPIPE end it, as many do for ``| head``, is
not to end with a helper of ours. 0 where the system has no such flag."""
