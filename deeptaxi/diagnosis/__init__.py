"""Diagnose a trained agent: name each problem, with evidence and a cure.

`diagnose` takes a `Case`, everything known about a model, and runs every check that the case allows. Each check is a
pure function in the module for its kind of evidence.
"""

from deeptaxi.diagnosis.case import Case, Diagnosis, Finding, NotChecked
from deeptaxi.diagnosis.run_checks import diagnose

__all__ = ["Case", "Diagnosis", "Finding", "NotChecked", "diagnose"]
