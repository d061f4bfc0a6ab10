"""Admission over HTTPS: the ASGI app, health, and the limits of a connection."""
