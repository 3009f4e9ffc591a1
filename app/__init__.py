"""The GUI process: views, presenters and the bridge to the engine."""
