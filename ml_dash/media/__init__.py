"""Arrays in, bytes out: what a frame is, and how it becomes JPEG or PNG. Nothing here reads or writes a file.

``frames`` is for the training process: it checks and copies, and imports numpy only. ``convert``, ``jpeg`` and ``png``
are for the writer process, which pays for everything else.
"""
