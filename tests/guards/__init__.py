"""Every guard that holds a promise, and which tests turn red without it."""
