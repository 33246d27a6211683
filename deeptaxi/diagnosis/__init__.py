"""What is wrong with a trained agent, by name, with evidence and cure.

`diagnose` takes a `Case`, everything that is known of a model, and makes every check that the case allows. Each check
is a pure function in the module of the evidence that it rests on.
"""

from deeptaxi.diagnosis.case import Case, Diagnosis, Finding, NotChecked
from deeptaxi.diagnosis.diagnose import diagnose

__all__ = ["Case", "Diagnosis", "Finding", "NotChecked", "diagnose"]
