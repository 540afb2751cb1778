"""Facts about models: families, image sizes, shapes, published models, and what kept blocks cost. No engine."""
