"""From a suite and a model to jobs."""
