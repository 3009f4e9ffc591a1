"""A model behind HTTP: the web process (which never loads torch) and the model processes that it starts."""
