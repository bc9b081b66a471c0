"""What the hardware does: tiles, registers, cycles. Nothing here knows what a network is."""
