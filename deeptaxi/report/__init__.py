"""The report: one page about one or several runs, that needs nothing but itself."""
