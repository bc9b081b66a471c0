"""From a wrong accumulator to a wrong answer, exactly, at the cost of what changed."""
