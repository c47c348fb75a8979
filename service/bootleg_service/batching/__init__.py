"""Merging images of different requests into batches for the one engine thread.

:mod:`batcher` is the entrance; :mod:`queue` says who goes next, :mod:`latency` how long it will take,
:mod:`ceiling` how large a batch may be, :mod:`faults` what a failure means. Nothing here knows HTTP or the model.
"""
