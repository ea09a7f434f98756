"""policy_file."""
