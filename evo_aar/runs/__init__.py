"""Runs: folders in which searches are begun, continued, watched, audited and reported on."""
