"""Processes and shared memory between a training process and its writer."""

from __future__ import annotations

import socket

NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
"""Flag for ``send`` to a process that may have ended: without it, SIGPIPE ends a program that has the default handler."""
