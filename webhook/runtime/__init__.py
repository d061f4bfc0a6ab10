"""A running guard put together: settings, certificates, what is followed."""
