"""Programs that train: run them as `python -m train.imagenette` from the root of the project."""
