"""existing_keys."""
