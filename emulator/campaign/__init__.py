"""Many trials: stored, resumable, on one core or many."""
