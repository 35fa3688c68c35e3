"""What may stand in the way of a row, one rule each. They look at what is known and ask nothing."""
