"""Bulk embedding, ``bootleg embed``: a source of images to a file of vectors, resumable at any moment.

By the engine in this process, without HTTP, or by a running service through ``bootleg_client``.
"""
