"""The only crossing from engine events to Qt signals."""
