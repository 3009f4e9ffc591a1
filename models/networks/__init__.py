"""nn.Module definitions only."""
