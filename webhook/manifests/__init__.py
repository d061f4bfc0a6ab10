"""Manifest files: read with their lines, and a VM's own written."""
