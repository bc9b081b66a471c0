"""Networks and arrays that survive the faults that were found: training, ranges, checksums, protection."""
