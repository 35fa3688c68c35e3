"""A job engine with Sidekiq's vocabulary, semantics and wire format."""
