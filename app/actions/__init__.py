"""Qt-free actions and key schemes."""
