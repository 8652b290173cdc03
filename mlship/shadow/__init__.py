"""What a shadow saw: records of the generated server, their figures, and conditions on them."""
