"""What a network is fed in training: prepared cases, their cache, random changes, batches."""
