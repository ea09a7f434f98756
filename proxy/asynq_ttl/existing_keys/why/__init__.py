"""Where one task is and what becomes of it: what Redis has of it, and what that means, in plain sentences."""
