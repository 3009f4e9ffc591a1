"""The worker process: messages in, compute, messages out."""
