"""What commands print with --json: one pydantic model each. Tests hold every answer against them."""
