"""Training, candidates, and how readers and models agree."""
