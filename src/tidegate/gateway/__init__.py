"""The use case: admit, plan, attempt, commit, relay, settle."""
