"""Qt-free view-models: state in, frozen view state out."""
