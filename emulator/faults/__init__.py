"""Where and how hardware fails: sites, fault models, the space of all of them, and what a strike does."""
