"""The leaderboard: every rule on every task, untuned and tuned with the same care."""
