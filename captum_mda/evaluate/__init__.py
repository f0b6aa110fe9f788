"""Many images, methods and metrics: the tables that name them, and what runs them."""
