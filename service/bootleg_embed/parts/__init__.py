"""Bulk embedding past one machine, ``--engine ray``: a folder of parquet parts, each computed by any worker.

Which image is in which part, and every byte of a part, are decided by the source and the plan alone. The parts that
are there are the journal.
"""
