"""What imports did and what they left to look at."""
