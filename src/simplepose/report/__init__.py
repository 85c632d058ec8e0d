"""Pages to look at: where a network errs, how a run goes, what is wrong with data."""
