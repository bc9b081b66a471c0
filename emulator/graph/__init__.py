"""What the network computes, in exact integers. Nothing here knows what hardware is."""
