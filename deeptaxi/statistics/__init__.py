"""Statistics of runs that differ in their seeds: intervals, times to the optimum, differences between groups."""
