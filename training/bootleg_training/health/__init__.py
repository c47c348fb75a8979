"""Is it learning? Health figures of a running pretraining and the verdict on them."""
