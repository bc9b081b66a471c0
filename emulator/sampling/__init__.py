"""Which faults to try, and what the trials prove."""
