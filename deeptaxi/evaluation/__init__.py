"""The verdict: how good a policy is, exactly where a transition table exists, by samples everywhere."""
