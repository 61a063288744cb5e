"""Retries, processes, threads, memory limits and redaction. Nothing here depends on recommendations."""
