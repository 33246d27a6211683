"""Statistics of runs that differ in their seeds: intervals, times to the optimum, tests of a difference, profiles."""
