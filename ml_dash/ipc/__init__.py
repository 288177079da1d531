"""Processes and shared memory between a training process and its writer."""

from __future__ import annotations

import socket

NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
"""Flag for sending to a process that may be gone: without it, a program whose SIGPIPE handler is the default would end."""
