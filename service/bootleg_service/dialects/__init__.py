"""Protocols that other systems' clients speak, on the one pipeline: each module translates, and computes nothing.

OpenAI's is the native one for JSON. A dialect has its own bodies, answers and error shape (:mod:`envelopes`); images by
URL are refused in all of them.
"""
