"""The terminal: tables, progress and charts. Reads records and verdicts, computes nothing."""
