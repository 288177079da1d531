"""Frames as arrays, images and videos.

``frames`` checks and copies frames in the training process, and imports numpy only. ``convert``, ``jpeg`` and ``png`` encode
images in the writer process. ``video`` and ``video_frames`` encode videos in the process that asks for one, and ``decode``
reads images back.
"""
